#!/usr/bin/env bash
# Every linter that docker/ has, for `make lint-deploy`. A tool that is missing is named, and those that are there
# must agree. --strict: a missing tool fails, too.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
failed=0
missing=()

check() { # check TOOL COMMAND...: says what happened
  local tool=$1 said
  shift
  if ! command -v "$tool" >/dev/null; then
    missing+=("$tool")
    return
  fi
  if said=$("$@" 2>&1); then
    echo "ok       $*"
  else
    failed=1
    printf 'FAILED   %s\n%s\n' "$*" "$said"
  fi
}

export TERSE_MASTER_KEY=sk-x GRAFANA_PASSWORD=x
check hadolint hadolint docker/Dockerfile.cpu docker/Dockerfile.gpu
check docker-compose docker-compose -f docker/compose.yaml config --quiet
check docker-compose docker-compose -f docker/compose.yaml -f docker/compose.gpu.yaml --profile traces config --quiet
check shellcheck shellcheck .ci/run docker/lint.sh
check promtool promtool check rules docker/prometheus/alerts.yml
if python3 -c 'import helm_python, kubernetes_validate, yaml' 2>/dev/null; then
  check python3 python3 docker/check_chart.py
else
  missing+=(helm-python-sdk kubernetes-validate)
fi
if command -v systemd-analyze >/dev/null; then
  unit=$(mktemp -d)/terse.service
  # The unit names a program that is installed on the server, not here.
  sed "s#/opt/terse/bin/terse#$(command -v true)#" docker/systemd/terse.service >"$unit"
  check systemd-analyze systemd-analyze verify --man=no "$unit"
  rm -r "$(dirname "$unit")"
else
  missing+=(systemd-analyze)
fi

if [ ${#missing[@]} -gt 0 ]; then
  echo "NOT RUN  no $(printf '%s\n' "${missing[@]}" | sort -u | paste -sd' ') here"
  [ "${1:-}" = --strict ] && failed=1
fi
exit $failed
