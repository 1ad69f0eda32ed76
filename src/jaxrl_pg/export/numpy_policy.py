"""A trained policy that acts with NumPy alone: no JAX, and nothing else than this folder.

    from policy import load

    policy = load()                                      # the folder that this file is in
    action = policy(obs)                                 # the most probable action
    action = policy(obs, np.random.default_rng(0))       # a sampled one
    hidden = policy.start(16)                            # with a recurrent core: 16 episodes begin
    action, hidden = policy(obs, hidden=hidden)
    stacked = policy.stack(obs)                          # trained on stacked frames: the first ones
    stacked = policy.stack(obs, stacked)                 # and those that follow

Beside it, policy.json says what the policy is, and policy.safetensors holds its arrays: kernels
`[in, out]` of layers that compute `x @ kernel + bias`, and of convolutions
`[height, width, in, out]`. Everything is computed in float32, in this order:

    observations -> normaliser -> convolutions -> layers -> core -> head -> distribution -> action

Normalising the observations and bringing actions to the environment's own bounds are part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_pg.export.numpy_network import Network

__all__ = ["FORMAT", "VERSION", "Policy", "load"]

FORMAT = "jaxrl_pg.policy"
VERSION = 1

_IMPOSSIBLE = np.float32(-1e9)  # a logit whose probability is 0
_LOG_STD_RANGE = (-20.0, 2.0)
_PARTS = ("policy.json", "policy.safetensors")


def load(folder: str | Path | None = None) -> Policy:
    """Load an exported policy.

    Args:
        folder: the folder that was exported; None for the one that this file is in.

    Raises:
        ValueError: if it holds no whole policy, or one of a later format.
    """
    place = Path(__file__).parent if folder is None else Path(folder)
    for name in _PARTS:
        if not (place / name).is_file():
            raise ValueError(f"{place} has no {name}: give a folder that was exported")
    description = json.loads((place / "policy.json").read_text(encoding="utf-8"))
    version = description.get("version")
    if description.get("format") != FORMAT or version != VERSION:
        raise ValueError(
            f"{place}/policy.json is of format {description.get('format')} version {version} and "
            f"this reads {FORMAT} version {VERSION}: use the policy.py beside it, or export again"
        )
    data = (place / "policy.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != description["sha256"]:
        raise ValueError(f"{place}/policy.safetensors is damaged or of another export: copy both")
    return Policy(description, _tensors(data))


class Policy:
    """A trained policy.

    Attributes:
        description: the content of policy.json: agent, environment, spaces, layers.
        tensors: the arrays of policy.safetensors by name.
        network: which makes logits, or the parameters of Box actions, of them.
    """

    def __init__(self, description: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Take what `load` read."""
        self.description, self.tensors = description, tensors
        self.network = Network(
            description["network"],
            tensors,
            {part["name"]: part["shape"] for part in description["observation"]["parts"]},
        )
        self._rule, self._parts = description["distribution"], description["observation"]["parts"]

    def __call__(self, obs: Any, rng: Any = None, hidden: Any = None) -> Any:
        """Return actions in the environment's own units.

        Args:
            obs: one observation, or a batch `[N, ...]`, as the environment gives it: an array, or
                a dict, tuple or object of arrays. An `action_mask` says which actions are legal.
            rng: a `numpy.random.Generator` to sample with; None for the most probable action.
            hidden: with a recurrent core, what it remembers: `start(N)` where episodes begin, then
                what the last call returned.

        Returns:
            The actions; with a core, the actions and what it remembers now.

        Raises:
            ValueError: if `obs` or `hidden` has another shape.
        """
        rows, outer = self._rows(obs)
        num = math.prod(outer)
        self._check_hidden(hidden, num)
        noise = None if rng is None else self._noise(rng, num)
        action, hidden = self.act(rows, noise, hidden)
        action = action.reshape((*outer, *action.shape[1:]))
        return (action, hidden) if self.network.layers["core"] else action

    def start(self, num: int) -> Any:
        """Return what a recurrent core remembers when `num` episodes begin; `()` without one."""
        zeros = np.zeros((num, self.network.layers["core_size"]), np.float32)
        return {None: (), "gru": zeros, "lstm": (zeros, zeros)}[self.network.layers["core"]]

    def stack(self, obs: Any, before: Any = None) -> Any:
        """Return observations stacked as in training: the last few, the newest last.

        Args:
            obs: the environment's own, one or a batch.
            before: what this returned a step earlier; None where an episode begins, which starts
                with copies of its first observation.
        """
        num, stacked = self.description["observation"]["frame_stack"], {}
        for part in self.description["observation"].get("frames", self._parts):
            x = np.asarray(_follow(obs, part))
            if num > 1 and part["kind"] != "mask":
                if part["kind"] == "discrete":
                    x = (x[..., None] == np.arange(part["num"])).astype(np.float32)
                elif not part["shape"]:
                    x = x[..., None]
                old = None if before is None else before[part["name"]] if part["name"] else before
                rest = [x] * (num - 1) if old is None else [old[..., x.shape[-1] :]]
                x = np.concatenate([*rest, x], axis=-1)
            stacked[part["name"]] = x
        return stacked.get("", stacked)

    def act(self, obs: dict[str, Any], noise: Any, hidden: Any) -> tuple[Any, Any]:
        """Return actions `[N, ...]` and what a core remembers, of arrays `[N, ...]` by name.

        Args:
            obs: each array of the observation, `""` for the only one.
            noise: uniform `[N]`, or standard normal `[N, A]` for Box actions; None for none.
            hidden: as for a call.
        """
        seen, legal = self._seen(obs)
        if self.description["action"]["kind"] != "box":
            logits, hidden = self._logits(seen, legal, hidden)
            return self._combination(self._choose(logits, legal, noise)), hidden
        raw, hidden = self._box_action(seen, noise, hidden)
        return self._stretch(raw), hidden

    # --- from observations to features ---

    def _rows(self, obs: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Return each array as `[N, ...]`, and the axes that were in front."""
        rows, outer = {}, set()
        for part in self._parts:
            x, shape = np.asarray(_follow(obs, part)), tuple(part["shape"])
            front, name = x.shape[: max(x.ndim - len(shape), 0)], part["name"] or "obs"
            if front + shape != x.shape:
                raise ValueError(f"{name} has shape {x.shape}: give {shape} or a batch of them")
            if part["kind"] == "discrete" and not np.all((x >= 0) & (x < part["num"])):
                raise ValueError(f"{name}={x}: give whole numbers from 0 to {part['num'] - 1}")
            if len(shape) == 3 and part.get("dtype") == "uint8" and x.dtype != np.uint8:
                x = _as_bytes(name, x)
            rows[part["name"]] = x.reshape(-1, *shape)
            outer.add(front)
        if len(outer) > 1:
            raise ValueError(f"the parts of obs have different axes in front: {sorted(outer)}")
        return rows, outer.pop()

    def _seen(self, obs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Return the arrays as networks see them, normalised, and the legal actions or None."""
        seen, legal = {}, None
        for part in self._parts:
            name, x = part["name"], obs[part["name"]]
            if part["kind"] == "mask":
                x = x.reshape(-1, math.prod(part["shape"])).astype(bool)
                legal = x | ~np.any(x, axis=-1, keepdims=True)  # where none is legal, all are
                continue
            if part["kind"] == "discrete":
                x = (x.reshape(-1, 1) == np.arange(part["num"])).astype(np.float32)
            else:
                x = x.reshape(-1, *(part["shape"] or (1,)))
                x = x if x.dtype in (np.uint8, np.bool_) else x.astype(np.float32)
            where = f"normalizer/{name}/" if name else "normalizer/"
            if f"{where}mean" in self.tensors:
                x = x.astype(np.float32) - self.tensors[f"{where}mean"][None]
                clip = np.float32(self.description["observation"]["clip"])
                x = np.clip(x / self.tensors[f"{where}std"][None], -clip, clip)
            seen[name] = x
        return seen, legal

    # --- from features to actions ---

    def _logits(self, seen: dict[str, Any], legal: Any, hidden: Any) -> tuple[Any, Any]:
        """Return logits `[N, A]`, or the q-values of an epsilon-greedy policy."""
        if self._rule["kind"] == "players":
            return self._joint(seen), hidden
        logits, hidden = self.network.head("", seen, hidden)
        if "temperature" in self._rule:
            logits = logits / np.float32(self._rule["temperature"])
        return logits if legal is None else np.where(legal, logits, _IMPOSSIBLE), hidden

    def _joint(self, seen: dict[str, Any]) -> Any:
        """Return the joint log-policy `[N, A]` of several players, each with its own network."""
        joint, first, start = None, self._rule["factors"], 0
        for i, num in enumerate(first):
            own, width = seen, self._rule["views"][i] if self._rule["views"] else 0
            if width:
                own = {"": seen[""][:, start : start + width]}
                start += width
            log_policy = _log_softmax(self.network.head(f"player_{i}/", own)[0])
            if joint is None:
                joint = log_policy
            else:
                pairs = joint[:, :, None] + log_policy[:, None, :]
                joint = pairs.reshape(-1, math.prod(first[:i]) * num)
        return joint

    def _choose(self, logits: Any, legal: Any, uniform: Any) -> Any:
        """Return the most probable action `[N]`; with noise, the one that it draws."""
        if uniform is None:
            return np.argmax(logits, axis=-1)
        if self._rule["kind"] == "epsilon_greedy":
            epsilon = np.float32(self._rule["epsilon"])
            best = np.argmax(logits, axis=-1)[:, None] == np.arange(logits.shape[-1])
            among = np.ones(logits.shape, bool) if legal is None else legal
            share = epsilon * among / np.sum(among, axis=-1, keepdims=True)
            weight = (np.float32(1.0) - epsilon) * best + share
        else:
            weight = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
        # The number of partial sums that the uniform has reached; an impossible action has none.
        sums = np.cumsum(weight, axis=-1)
        return np.sum(uniform[:, None] * sums[:, -1:] >= sums[:, :-1], axis=-1)

    def _combination(self, action: Any) -> Any:
        """Return whole numbers; of a MultiDiscrete, the vectors that they stand for."""
        factors = self.description["action"].get("nvec")
        if factors is None:
            return action.astype(np.int32)
        weights = [math.prod(factors[i + 1 :]) for i in range(len(factors))]
        digits = [action // w % k for w, k in zip(weights, factors, strict=True)]
        return np.stack(digits, axis=-1).astype(np.int32)

    def _box_action(self, seen: dict[str, Any], noise: Any, hidden: Any) -> tuple[Any, Any]:
        """Return actions `[N, A]` before they are brought to the bounds."""
        kind = self._rule["kind"]
        if kind == "sampler":
            return self._sampled(seen, noise), hidden
        head, hidden = self.network.head("", seen, hidden)
        if kind == "normal":
            std = np.exp(self.tensors["log_std"])[None]
            return head if noise is None else head + std * noise, hidden
        if kind == "clipped_normal":
            mean, std = np.tanh(head), np.float32(self._rule["std"])
            return mean if noise is None else np.clip(mean + std * noise, -1.0, 1.0), hidden
        size = self.description["action"]["shape"][0]
        mean, log_std = head[:, :size], np.clip(head[:, size : 2 * size], *_LOG_STD_RANGE)
        if noise is None:
            return np.tanh(mean), hidden
        if kind == "tanh_full_normal":
            below, mixed = head[:, 2 * size :], [noise[:, 0]]
            for i in range(1, size):  # row by row of the strictly lower triangle
                row = below[:, i * (i - 1) // 2 : i * (i + 1) // 2]
                mixed.append(noise[:, i] + np.sum(row * noise[:, :i], axis=-1))
            noise = np.stack(mixed, axis=-1)
        return np.tanh(mean + np.exp(log_std) * noise), hidden

    def _sampled(self, seen: dict[str, Any], noise: Any) -> Any:
        """Return a sampler's draw; without noise, the best of fixed ones by the Q network."""
        if noise is not None:
            return np.tanh(self.network.head("sampler/", seen, None, noise)[0])
        first = self.network.flatten(next(iter(seen.values())))
        zero = first[:, :1].astype(np.float32) * np.float32(0.0)  # [N, 1]
        draws, values = [], []
        for one in self.tensors["particles"]:
            draws.append(np.tanh(self.network.head("sampler/", seen, None, zero + one[None])[0]))
            values.append(self.network.head("q/", seen, None, draws[-1])[0])
        best = np.argmax(np.concatenate(values, axis=1), axis=1)[:, None]
        taken = (best == np.arange(len(draws)))[:, :, None]
        return np.sum(np.where(taken, np.stack(draws, axis=1), np.float32(0.0)), axis=1)

    def _stretch(self, raw: Any) -> Any:
        """Bring actions from [-1, 1] to the bounds; without finite ones only clip them."""
        action = self.description["action"]
        none = np.float32(np.finfo(np.float32).max)
        low, high = (
            np.array([sign * none if x is None else x for x in action[side]], np.float32)[None]
            for side, sign in (("low", -1), ("high", 1))
        )
        finite = np.array(
            [None not in pair for pair in zip(action["low"], action["high"], strict=True)]
        )
        width = np.where(finite, high, np.float32(1.0)) - np.where(finite, low, np.float32(-1.0))
        unit = np.clip(raw, -1.0, 1.0) + np.float32(1.0)
        stretched = low + np.float32(0.5) * unit * width
        return np.where(finite[None], stretched, np.clip(raw, low, high))

    def _noise(self, rng: Any, num: int) -> Any:
        if self.description["action"]["kind"] != "box":
            return rng.random(num, dtype=np.float32)
        return rng.standard_normal((num, *self.description["action"]["shape"]), dtype=np.float32)

    def _check_hidden(self, hidden: Any, num: int) -> None:
        if self.network.layers["core"] is None:
            if hidden is not None:
                raise ValueError("the policy has no core: leave hidden out")
            return
        want, given = (x if isinstance(x, tuple) else (x,) for x in (self.start(num), hidden))
        if [np.shape(x) for x in given] != [x.shape for x in want]:
            raise ValueError(
                f"the policy has a core: give hidden=policy.start({num}) when episodes begin, and "
                "after that what the last call returned"
            )


def _log_softmax(x: Any) -> Any:
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _as_bytes(name: str, x: Any) -> Any:
    """Return an image of bytes that is given in another type: the network would not scale that."""
    wrong = x[~((x >= 0) & (x <= 255) & (x == np.round(x)))]
    if wrong.size:
        raise ValueError(
            f"{name} is {x.dtype}{list(x.shape)} ({wrong[0]}), and the environment gives bytes: "
            "give uint8, or whole numbers from 0 to 255"
        )
    return x.astype(np.uint8)


def _follow(obs: Any, part: dict[str, Any]) -> Any:
    """Return one array of an observation, by its name or by the path that leads to it."""
    if isinstance(obs, dict) and part["name"] in obs:
        return obs[part["name"]]
    for name in part["path"]:
        try:
            if isinstance(obs, dict):
                obs = obs[name]
            elif isinstance(obs, tuple | list) and name.isdigit():
                obs = obs[int(name)]
            else:
                obs = getattr(obs, name)
        except (AttributeError, IndexError, KeyError):
            raise ValueError(f"the observation has no {'.'.join(part['path'])!r}") from None
    return obs


def _tensors(data: bytes) -> dict[str, Any]:
    """Return the float32 arrays of a safetensors file."""
    start = 8 + int.from_bytes(data[:8], "little")
    header, arrays = json.loads(data[8:start]), {}
    for name, entry in header.items():
        if name != "__metadata__":
            low, high = entry["data_offsets"]
            flat = np.frombuffer(data[start + low : start + high], "<f4")
            arrays[name] = flat.reshape(entry["shape"])
    return arrays
