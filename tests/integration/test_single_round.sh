#!/usr/bin/env bash
# One client takes one round from OPEN to CLOSED and the new model can be downloaded.
source "$(dirname "$(readlink -f "$0")")/common.sh"

step "start a coordinator with one round for one client"
start_coordinator '
name = "default"
[rounds]
total = 1
target_updates = 1
min_updates = 1'
equal "$(curl -sf "$URL/status/1" | json "d['state']")" OPEN "state before anybody came"

step "start a client that really trains"
start_client client-1 digits
wait_until 90 round_is 1 CLOSED

step "check the result"
curl -sf "$URL/aggregate/1" >"$WORK/result.json"
equal "$(json "d['status']" <"$WORK/result.json")" aggregated "status of the result"
equal "$(json "d['model_version']" <"$WORK/result.json")" v2 "version of the result"
equal "$(json "d['num_updates']" <"$WORK/result.json")" 1 "number of updates"
curl -sf -H 'Accept: application/vnd.safetensors' "$URL/model/v2" -o "$WORK/model.safetensors"
equal "$(sha256sum "$WORK/model.safetensors" | cut -d' ' -f1)" \
    "$(json "d['model_digest']" <"$WORK/result.json")" "digest of the downloaded model"
equal "$(curl -sf "$URL/status/1" | json "d['updates_received']")" "['client-1']" "who was counted"
verify_data
echo "PASSED: single round"
