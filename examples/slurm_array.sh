#!/usr/bin/env bash
# Ten seeds as ten tasks of a Slurm array. A task that is stopped, by its time limit, by a task of
# higher priority or by a node that fails, is queued again and goes on from its last checkpoint.
#
#     sbatch examples/slurm_array.sh
#     sbatch --array=0-29 examples/slurm_array.sh ppo --env Acrobot-v1 --total-timesteps 5000000
#     jaxrl-pg report runs/array/seed-*          # all seeds in one figure
#
# What follows the script's name are the arguments of `jaxrl-pg train`. The runs are in $RUNS
# (runs/array): give another folder for other arguments. Submitted again, with the same folder, it
# goes on with what is not finished. One job for a whole sweep needs none of this but --requeue:
# `jaxrl-pg sweep` continues by itself.
#
#SBATCH --job-name=jaxrl_pg
#SBATCH --array=0-9
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
# Two minutes before the time limit this script is told, and has the run saved.
#SBATCH --signal=B:USR1@120
set -euo pipefail

run="${RUNS:-runs/array}/seed-$SLURM_ARRAY_TASK_ID"
if [ $# -eq 0 ]; then
  set -- ppo --env CartPole-v1 --total-timesteps 1000000
fi

out_of_time=false
trap 'out_of_time=true; kill -TERM $(jobs -p)' USR1 # the run saves, and ends with 143
trap 'kill -TERM $(jobs -p)' TERM                   # cancelled or preempted: it saves, and no more

# To train on a GPU: #SBATCH --gpus-per-task=1. A virtual environment: source its activate here.
if [ -e "$run/config.json" ]; then
  jaxrl-pg resume "$run" &
else
  jaxrl-pg train "$@" --seed "$SLURM_ARRAY_TASK_ID" --run-dir "$run" &
fi
training=$!

code=0
wait "$training" || code=$? # returns early if a signal comes; then the run is still saving
while kill -0 "$training" 2>/dev/null; do
  code=0
  wait "$training" || code=$?
done
if $out_of_time && [ "$code" -ne 0 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
