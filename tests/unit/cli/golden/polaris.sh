#!/bin/bash

#PBS -S /bin/bash
#PBS -N beamcast.<time>
#PBS -m n
#PBS -l walltime=01:00:00
#PBS -l select=2:ncpus=64:system=polaris
#PBS -o <run directory>/parsl/000/submit_scripts/beamcast.<time>.stdout
#PBS -e <run directory>/parsl/000/submit_scripts/beamcast.<time>.stderr
#PBS -l filesystems=home:eagle
#PBS -l place=scatter

export http_proxy="http://proxy.alcf.anl.gov:3128"
export https_proxy="http://proxy.alcf.anl.gov:3128"
export no_proxy="localhost,127.0.0.1,*.cm.polaris.alcf.anl.gov,polaris-*,*.alcf.anl.gov"
export TMPDIR="/tmp"
module use /soft/modulefiles
module load conda
conda activate

export JOBNAME="beamcast.<time>"

process_worker_pool.py <as Parsl fills it in at the start>

