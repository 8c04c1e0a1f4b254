#!/bin/bash

#SBATCH --job-name=beamcast.<time>
#SBATCH --output=<run directory>/parsl/000/submit_scripts/beamcast.<time>.stdout
#SBATCH --error=<run directory>/parsl/000/submit_scripts/beamcast.<time>.stderr
#SBATCH --nodes=2
#SBATCH --time=30
#SBATCH --ntasks-per-node=1
#SBATCH --no-requeue
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=56
#SBATCH --exclusive
#SBATCH --partition=batch
#SBATCH --account=MyProject


export http_proxy="http://proxy.ccs.ornl.gov:3128/"
export https_proxy="http://proxy.ccs.ornl.gov:3128/"
export no_proxy="localhost,127.0.0.1,*.ccs.ornl.gov"
module load cray-python


export JOBNAME="beamcast.<time>"

set -e
export CORES=$SLURM_CPUS_ON_NODE
export NODES=$SLURM_JOB_NUM_NODES

[[ "1" == "1" ]] && echo "Found cores : $CORES"
[[ "1" == "1" ]] && echo "Found nodes : $NODES"
WORKERCOUNT=2
SCRIPT_DIR="<run directory>/parsl/000/submit_scripts"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

cat << SLURM_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh
process_worker_pool.py <as Parsl fills it in at the start>
SLURM_EOF
chmod a+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

srun --ntasks 2 -l --cpus-per-task=56 --cpu-bind=none bash ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$SLURM_JOB_NAME.sh

[[ "1" == "1" ]] && echo "Done"

