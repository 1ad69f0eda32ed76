"""Every environment has a picture, and the pictures show where things are."""

import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxrl_pg import envs, ppo
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.theory import builders
from jaxrl_pg.training.recording import Recording
from jaxrl_pg.watch import bodies, canvas, caption, colors, grids, images, panel, stages
from jaxrl_pg.watch.scene import Scene

NAMES = [*gymnax.names(), *envs.making.OURS]
NAMES.remove("MNISTBandit-bsuite")  # it needs a download
WIDTH = 200


def scene_of(name, steps=2, **states):
    """A scene of zeros, but for what is given of the states; nothing is compiled."""
    env = envs.make(name)
    obs, state = jax.eval_shape(env.core.reset_env, jax.random.key(0), env.params)

    def zeros(tree):
        return jax.tree.map(lambda x: np.zeros((steps + 1, *x.shape), x.dtype), tree)

    state = zeros(state)
    if states:
        given = {key: np.broadcast_to(x, getattr(state, key).shape) for key, x in states.items()}
        state = state.replace(**given)
    shape = (steps, *env.spec.action_shape)
    actions = np.zeros(shape, np.int32 if env.spec.discrete else np.float32)
    played = Recording(state, zeros(obs), actions, np.ones(steps, np.float32), True, False)
    return Scene(env, played, WIDTH)


def where(picture, color):
    """The middle of all pixels of a colour, in shares of the width and height."""
    rows, columns = np.nonzero((picture == np.array(color)).all(axis=-1))
    assert len(rows)
    return columns.mean() / picture.shape[1], rows.mean() / picture.shape[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_has_a_picture(name):
    scene = scene_of(name)
    stage = stages.stage_of(ppo.Config(env=name), scene.env, WIDTH)
    draw = stage.draw(scene, 0)
    pictures = [draw(t) for t in range(3)]
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.shape == (*pictures[0].shape[:1], WIDTH, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    named = {"CartPole-v1": "left", "Breakout-MinAtar": "stay", "Catch-bsuite": "left"}
    if name in named:
        assert stage.actions[0] == named[name]


def test_every_drawer_is_there_and_belongs_to_an_environment():
    names = [name for name in stages.DRAWERS if not name.startswith("pgx:")]
    assert set(names) <= set(NAMES)


def drawn(name, t=0, **states):
    scene = scene_of(name, **states)
    stage = stages.stage_of(ppo.Config(env=name), scene.env, WIDTH)
    return stage.draw(scene, 0)(t)


@pytest.mark.parametrize("angle", [-0.2, 0.2])
def test_a_cart_stands_where_it_is_and_its_pole_leans_as_it_does(angle):
    picture = drawn("CartPole-v1", x=1.2, theta=angle)
    cart, pole = where(picture, colors.BLUE), where(picture, colors.ORANGE)
    assert cart[0] == pytest.approx(0.5 + 1.2 / (2 * 1.15 * 2.4), abs=0.01)
    lean = (pole[0] - cart[0]) * 2 * 1.15 * 2.4  # of the visible pole's middle, in metres
    assert math.copysign(1, lean) == math.copysign(1, angle)
    assert abs(lean) == pytest.approx(0.5 * math.sin(0.2), abs=0.06)


def test_the_force_on_a_cart_points_to_its_side():
    scene = scene_of("CartPole-v1")
    draw = stages.stage_of(ppo.Config(env="CartPole-v1"), scene.env, WIDTH).draw
    left = draw(scene, 0)(0)
    pushed = scene.recording._replace(actions=np.ones(2, np.int32))
    right = draw(scene._replace(recording=pushed), 0)(0)
    assert where(left, colors.BLACK)[0] < 0.5 < where(right, colors.BLACK)[0]
    assert (draw(scene, 0)(2)[:, : WIDTH // 3] != colors.BLACK).any(axis=-1).all()  # over: no force


def test_a_pendulum_stands_up_at_zero_and_turns_against_the_clock():
    assert where(drawn("Pendulum-v1"), colors.VERMILLION)[1] < 0.5
    assert where(drawn("Pendulum-v1", theta=math.pi), colors.VERMILLION)[1] > 0.5
    assert where(drawn("Pendulum-v1", theta=math.pi / 2), colors.VERMILLION)[0] < 0.5


def test_an_acrobot_hangs_at_zero_and_its_second_angle_is_to_the_first_link():
    assert where(drawn("Acrobot-v1"), colors.ORANGE)[1] > 0.75
    folded = drawn("Acrobot-v1", joint_angle1=math.pi / 2, joint_angle2=math.pi / 2)
    x, y = where(folded, colors.ORANGE)  # right, and from there up
    assert x > 0.6
    assert y < 0.5


def test_a_car_in_the_valley_is_below_one_on_the_hill():
    valley, hill = (where(drawn("MountainCar-v0", position=x), colors.BLUE) for x in (-0.5236, 0.4))
    assert valley[0] < hill[0]
    assert valley[1] > hill[1]


def test_a_layer_has_minatars_colour_and_the_last_layer_is_in_front():
    frame = np.zeros((2, 2, 4), bool)
    frame[0, 0, 0] = frame[0, 0, 2] = frame[1, 1, 1] = True
    picture = images.layered(frame)
    helix = colors.cubehelix(4)
    np.testing.assert_array_equal(picture[0, 0], helix[2])
    np.testing.assert_array_equal(picture[1, 1], helix[1])
    np.testing.assert_array_equal(picture[0, 1], [0, 0, 0])
    assert (np.diff(helix.astype(int) @ [299, 587, 114]) > 0).all()  # ever brighter


def test_of_stacked_frames_the_newest_is_shown():
    scene = scene_of("Breakout-MinAtar")
    obs = np.zeros((3, 10, 10, 8), bool)
    obs[:, 4, 7, 1] = True  # an old ball
    obs[:, 2, 3, 5] = True  # the newest frame's
    picture = images.minatar(scene._replace(recording=scene.recording._replace(obs=obs)))(0)
    np.testing.assert_array_equal(picture[2 * 20 + 10, 3 * 20 + 10], colors.cubehelix(4)[1])
    np.testing.assert_array_equal(picture[4 * 20 + 10, 7 * 20 + 10], [0, 0, 0])


def test_the_agent_of_a_maze_is_in_its_cell():
    picture = drawn("FourRooms-misc", pos=np.array([[3, 9]] * 3), goal=np.array([[9, 3]] * 3))
    side = WIDTH / (1.2 * 13)
    left = (WIDTH - 13 * side) / 2
    x, y = where(picture, colors.BLUE)
    assert x * WIDTH == pytest.approx(left + 9.5 * side, abs=2)
    assert y * picture.shape[0] == pytest.approx(3.5 * side, abs=2)


def test_a_finite_mdp_shows_the_present_state_and_those_before():
    env = envs.make(from_mdp.from_mdp(builders.chain(5)))
    states = from_mdp.State(np.array([0, 1, 2]), np.arange(3))
    played = Recording(states, np.zeros((3, 5)), np.zeros(2, np.int32), np.zeros(2), True, False)
    picture = grids.states(Scene(env, played, WIDTH))(2)
    x, y = where(picture, colors.BLUE)  # state 2: the third of three in the first of two rows
    assert x > 2 / 3
    assert y < 0.5
    assert where(picture, colors.SKY)[0] == pytest.approx(1 / 3, abs=0.03)  # states 0 and 1


def test_a_panel_shows_lines_shades_images_and_every_players_action():
    obs = {
        "few": np.arange(6.0).reshape(3, 2),
        "many": np.arange(120.0).reshape(3, 40),
        "image": np.zeros((3, 9, 9, 3), np.uint8),
        "action_mask": np.ones((3, 4), bool),
    }
    actions = np.array([1, 3])  # of 2 x 2
    played = Recording((), obs, actions, np.zeros(2, np.float32), False, True)
    env = SimpleNamespace(core=None)
    draw = panel.panel(Scene(env, played, WIDTH, factors=(2, 2)))
    early, late = draw(0), draw(2)
    assert early.shape == late.shape
    assert len(panel._actions(Scene(env, played, WIDTH, (2, 2)))) == 2
    bluish = [(x[..., 2].astype(int) - x[..., 0] > 60).sum() for x in (early, late)]
    assert bluish[1] > bluish[0] + 50  # time goes on
    np.testing.assert_array_equal(
        panel._actions(Scene(env, played, WIDTH, (2, 2)))[1].values[:, 0], [1, 1]
    )


def test_the_caption_adds_up_rewards_and_says_how_an_episode_ended():
    played = Recording((), np.zeros((3, 1)), np.array([0, 1]), np.float32([1, 2]), True, False)
    np.testing.assert_array_equal(caption.returns_so_far(played), [0, 1, 3])
    assert caption._ending(played) == "terminated"
    assert caption._ending(played._replace(terminated=False)) == "not over yet"
    assert caption._ending(played._replace(terminated=False, truncated=True)) == "time limit"
    blank = np.zeros((10, WIDTH, 3), np.uint8)
    long = caption.captioned(blank, "a name that is much longer than the picture", played, 0)
    assert long.shape[1] == WIDTH


def test_bodies_are_drawn_from_their_shapes_and_places():
    kinds = [0, 2, 3, 4, 5, 6]  # a plane, and one of each kind
    num = len(kinds)
    model = SimpleNamespace(
        ngeom=num,
        geom_type=np.array(kinds),
        geom_size=np.full((num, 3), 0.2),
        geom_rgba=np.tile([1.0, 0.5, 0.0, 1.0], (num, 1)),
        geom_matid=np.full(num, -1),
        mat_rgba=np.zeros((0, 4)),
        geom_rbound=np.full(num, 0.4),
    )

    def placed(state):
        places = np.stack([np.arange(num) + float(state), np.zeros(num), np.full(num, 0.5)], -1)
        return model, SimpleNamespace(
            geom_xpos=places, geom_xmat=np.tile(np.eye(3).ravel(), (num, 1))
        )

    core = SimpleNamespace(views=SimpleNamespace(bodies=placed))
    states = SimpleNamespace(inner=np.zeros(3))
    played = Recording(None, None, np.zeros(2), np.zeros(2), True, False)
    scene = SimpleNamespace(
        env=SimpleNamespace(core=core), recording=played, width=WIDTH, state=lambda t: states
    )
    states.inner = 0.0
    picture = bodies.bodies(scene)(0)
    assert picture.shape == (150, WIDTH, 3)
    assert where(picture, (235, 117, 0))[0] == pytest.approx(0.5, abs=0.1)


def test_a_canvas_puts_things_where_they_belong():
    made = canvas.Canvas(100, (0, 2), (0, 1))
    made.box((0, 0.5), (1, 1), colors.BLUE)
    picture = made.picture()
    assert picture.shape == (50, 100, 3)
    np.testing.assert_array_equal(picture[10, 10], colors.BLUE)
    np.testing.assert_array_equal(picture[40, 10], colors.WHITE)
    small = canvas.fitted(np.zeros((2, 4, 3), np.uint8), 100)
    assert small.shape == (50, 100, 3)
