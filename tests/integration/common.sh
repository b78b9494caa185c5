# Shared by the integration scripts: a coordinator on a free port, clients, and assertions.
# Each script starts what it needs, asserts real outcomes over HTTP, and leaves nothing behind.
set -euo pipefail

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
PYTHON="${PYTHON:-$ROOT/.venv/bin/python}"
WORK="$(mktemp -d)"
PIDS=()

cleanup() {
    local code=$?
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ]; then
        echo "--- last lines of the logs ---"
        tail -n 20 "$WORK"/*.log 2>/dev/null || true
    fi
    rm -rf "$WORK"
    exit "$code"
}
trap cleanup EXIT

step() { echo "==> $*"; }

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# equal FOUND WANTED WHAT
equal() { [ "$1" = "$2" ] || fail "$3: found '$1', wanted '$2'"; }

# json EXPRESSION < document: evaluate a Python expression on the document, named d
json() { "$PYTHON" -c "import json, sys; d = json.load(sys.stdin); print($1)"; }

free_port() {
    "$PYTHON" -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
}

# wait_until SECONDS COMMAND…: repeat the command until it succeeds
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "gave up waiting for: $*"
        sleep 0.3
    done
}

# start_coordinator JOB_TOML: serve the job; sets URL and OPERATOR_KEY
start_coordinator() {
    local port
    port="$(free_port)"
    URL="http://127.0.0.1:$port"
    printf '%s\n' "$1" >"$WORK/job.toml"
    FED_COMPUTE_HEARTBEAT_SECONDS="${HEARTBEAT_SECONDS:-5}" "$PYTHON" -m fed_compute.cli.main serve \
        --job "$WORK/job.toml" --port "$port" --data-dir "$WORK/data" >"$WORK/coordinator.log" 2>&1 &
    PIDS+=("$!")
    wait_until 60 curl -sf "$URL/readyz"
    OPERATOR_KEY="$(cat "$WORK/data/operator.key")"
}

# start_client NAME DATA: a real client process; its process id is in LAST_PID
start_client() {
    COORDINATOR_URL="$URL" CLIENT_NAME="$1" CLIENT_DATA="$2" CLIENT_STATE_DIR="$WORK/$1" \
        SLEEP_BETWEEN_ROUNDS=0.2 RETRY_DELAY=0.2 "$PYTHON" -m fed_compute.client >"$WORK/$1.log" 2>&1 &
    LAST_PID="$!"
    PIDS+=("$LAST_PID")
}

# register NAME: prints the key
register() {
    curl -sf -X POST "$URL/client/register" -H 'Content-Type: application/json' \
        -d "{\"client_name\": \"$1\"}" | json "d['api_key']"
}

round_is() { [ "$(curl -sf "$URL/status/$1" | json "d['state']")" = "$2" ]; }

# status_of METHOD PATH [curl arguments…]: prints the HTTP status, the body goes to $WORK/body
status_of() {
    local method="$1" path="$2"
    shift 2
    curl -s -o "$WORK/body" -w '%{http_code}' -X "$method" "$URL$path" "$@"
}

verify_data() { "$PYTHON" -m fed_compute.cli.main verify "$WORK/data" >"$WORK/verify.log" || fail "verify found a breach"; }
