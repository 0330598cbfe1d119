#!/usr/bin/env bash
#SBATCH --job-name=alss_ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
##SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#
# A sweep on a Ray of its own, for the length of a Slurm job, from the root of the repository and with the project's
# environment active:
#     sbatch cluster/slurm.sh python sweeps/latent_dim.py --results /on/shared/storage
# Options of sbatch override those above. Five minutes before its time is over the sweep stops as at Ctrl-C; the same
# command with --resume goes on with it.
set -euo pipefail
set -m # background commands can be interrupted, and have process groups of their own

nodes=$SLURM_JOB_NUM_NODES
patience=${ALSS_RAY_JOIN_SECONDS:-300}
# Other jobs on these machines have other ports and folders. From 32768 on, Linux gives ports to whoever asks for any.
port=$((20000 + SLURM_JOB_ID % 5000))
address=$(python -c 'import ray; print(ray.util.get_node_ip_address())')
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_ADDRESS="$address:$port"

# What every machine runs until the step is ended; the first of them, which is this one, is the head.
machine='
if [ "$SLURM_PROCID" = 0 ]; then
  where=(--head "--port=${RAY_ADDRESS##*:}" --include-dashboard=false "--temp-dir=/tmp/ray-$SLURM_JOB_ID"
         "--node-ip-address=${RAY_ADDRESS%:*}" "--ray-client-server-port=$((${RAY_ADDRESS##*:} + 5000))")
else
  until (exec 3<>"/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2>/dev/null; do sleep 1; done
  where=("--address=$RAY_ADDRESS")
fi
unset RAY_ADDRESS
trap "rm -rf /tmp/ray-$SLURM_JOB_ID" EXIT
ray start "${where[@]}" "--num-cpus=${SLURM_CPUS_PER_TASK:-1}" --block &
trap "kill \$!" TERM INT
wait $! || wait $!
'
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --export=ALL bash -c "$machine" &
step=$!
trap 'kill -TERM "$step" 2>/dev/null && wait "$step" || true' EXIT

python - "$nodes" "$patience" <<'END'
import sys, time
import ray

wanted, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
there = []
while len(there) < wanted:
    if time.monotonic() > until:
        sys.exit(f"Only {len(there)} of {wanted} machines have joined; what srun printed says why.")
    time.sleep(1)
    try:
        if not ray.is_initialized():
            ray.init(logging_level="error", log_to_driver=False)
        there = [node for node in ray.nodes() if node["Alive"]]
    except ConnectionError:
        pass
print(f"{wanted} machines, {ray.cluster_resources().get('CPU', 0):g} CPUs", flush=True)
END

"$@" &
sweep=$!
trap 'kill -INT "$sweep"' USR1 INT TERM
status=0
wait "$sweep" || status=$?
while kill -0 "$sweep" 2>/dev/null; do # a signal ended the wait, not yet the sweep
  status=0
  wait "$sweep" || status=$?
done
exit "$status"
