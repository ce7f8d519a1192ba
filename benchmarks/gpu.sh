#!/usr/bin/env bash
# Every path of CUDA on one card in under eight minutes, a table each:
#
#     benchmarks/gpu.sh            # writes up to 18 GB at a time below $TMPDIR, and removes them
#     benchmarks/gpu.sh --quick    # the same commands in tiny shapes; a CPU will do
#
# Models are made on the spot, of random weights, and keep within 15 GB of the card. A step that fails or runs
# out of its seconds does not stop the others; the summary names it, and the script ends with 1.
# PYTHON is the interpreter (default: .venv's, if there is one); SECONDS_EACH replaces the seconds of every step.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

quick=()
case "${1-}" in
  "") ;;
  --quick) quick=(--quick) ;;
  *) echo "usage: benchmarks/gpu.sh [--quick]" >&2; exit 2 ;;
esac
if [ -z "${PYTHON-}" ]; then
  PYTHON=python
  [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
summary=()
bad=0

# step NAME SECONDS MODULE [FLAG...]: one benchmark, killed a few seconds after its time is over.
step() {
  local name=$1 seconds=${SECONDS_EACH:-$2} module=benchmarks.$3 start=$SECONDS status
  shift 3
  timeout --kill-after=5 "$seconds" "$PYTHON" -m "$module" "$@" ${quick[@]+"${quick[@]}"}
  status=$?
  case $status in
    0) status=ran ;;
    124 | 137) status="out of time"; bad=1 ;;
    *) status="failed ($status)"; bad=1 ;;
  esac
  summary+=("| $(printf '%-26s | %-12s | %7d | %7d' "$name" "$status" $((SECONDS - start)) "$seconds") |")
}

limit=(--gpu 15GB)
scoring=(option_scoring --size 7b --shapes 512/32/5 --questions 2 --repeats 1 --no-training "${limit[@]}")
step "scoring, fp16" 60 "${scoring[@]}"
step "scoring, NF4" 60 "${scoring[@]}" --nf4
step "streaming 7 B, fp16" 80 streaming --parameters 7e9 --alone --questions 16 "${limit[@]}"
step "streaming 7 B, NF4" 50 streaming --parameters 7e9 --nf4 --questions 16 \
  --checkpoint "$work/7b-nf4" "${limit[@]}"
step "QLoRA, 7 B" 45 gpu_training qlora --checkpoint "$work/7b-nf4" "${limit[@]}"
rm -rf "$work/7b-nf4"
step "streaming 32 B, NF4" 95 streaming --parameters 32e9 --nf4 --questions 8 "${limit[@]}"
step "DeBERTa, fp16" 40 gpu_training deberta "${limit[@]}"
step "exact search" 25 exact_search
step "encoding" 20 encode

echo
echo "### Summary"
echo
echo "| step                       | result       | seconds | allowed |"
echo "| -------------------------- | ------------ | ------- | ------- |"
printf '%s\n' "${summary[@]}"
exit "$bad"
