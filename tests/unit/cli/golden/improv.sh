#!/bin/bash

#PBS -S /bin/bash
#PBS -N beamcast.<time>
#PBS -m n
#PBS -l walltime=01:00:00
#PBS -l select=2:ncpus=128
#PBS -o <run directory>/parsl/000/submit_scripts/beamcast.<time>.stdout
#PBS -e <run directory>/parsl/000/submit_scripts/beamcast.<time>.stderr
#PBS -l place=scatter



export JOBNAME="beamcast.<time>"

set -e
export CORES=$(getconf _NPROCESSORS_ONLN)
[[ "1" == "1" ]] && echo "Found cores : $CORES"
WORKERCOUNT=2
SCRIPT_DIR="<run directory>/parsl/000/submit_scripts"
[[ -d $SCRIPT_DIR ]] || SCRIPT_DIR=""

# Deduplicate the nodefile
HOSTFILE="$JOBNAME.nodes"
if [ -z "$PBS_NODEFILE" ]; then
    echo "localhost" > $HOSTFILE
else
    sort -u $PBS_NODEFILE > $HOSTFILE
fi

cat << MPIEXEC_EOF > ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh
process_worker_pool.py <as Parsl fills it in at the start>
MPIEXEC_EOF
chmod u+x ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh

mpiexec --bind-to none --map-by ppr:1:node -n $WORKERCOUNT --hostfile $HOSTFILE /usr/bin/sh ${SCRIPT_DIR:+$SCRIPT_DIR/}cmd_$JOBNAME.sh

[[ "1" == "1" ]] && echo "All workers done"


