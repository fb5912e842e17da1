#!/bin/sh
# An array of guests: sbatch deploy/slurm/guests.sh; docs/fleet.md. scancel and the time limit press the power button.
#SBATCH --job-name=volt
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=320M
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@90
#SBATCH --output=volt-%A-%a.out
exec srun --kill-on-bad-exit volt run \
  --image "${VOLT_IMAGE:-guest.tar}" --scratch "${TMPDIR:-/tmp}" \
  --cpus "${SLURM_CPUS_PER_TASK:-1}" --memory 192M --no-reboot \
  --cmdline "console=ttyS0 quiet task=${SLURM_ARRAY_TASK_ID:-0}" < /dev/null
