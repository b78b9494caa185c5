#!/usr/bin/env bash
# A client dies with a task in hand: the lease comes back, the round closes without it, and its dropout is recorded.
source "$(dirname "$(readlink -f "$0")")/common.sh"
HEARTBEAT_SECONDS=1

step "start a coordinator that needs two of three"
start_coordinator '
name = "default"
[rounds]
total = 2
target_updates = 3
min_updates = 2
deadline_seconds = 60'

step "a client takes a task and is never heard of again"
KEY="$(register vanishing)"
equal "$(status_of GET "/task/vanishing" -H "Authorization: Bearer $KEY" -H 'Fed-Compute-Protocol: 1')" 200 "task for the vanishing client"
equal "$(json "d['round_id']" <"$WORK/body")" 1 "its round"

step "two real clients go on"
start_client client-1 digits,part=1/2
start_client client-2 digits,part=2/2
wait_until 150 round_is 2 CLOSED

step "check that the dropout cost nobody but the dropped"
equal "$(curl -sf "$URL/status/1" | json "sorted(d['updates_received'])")" "['client-1', 'client-2']" "who was counted"
dropped() { curl -sf "$URL/reputation/vanishing" | json "d['dropouts'] == 1 or sys.exit(1)"; }
wait_until 30 dropped
equal "$(curl -sf "$URL/incentives/vanishing" | json "d['micro_tokens']")" 0 "what the dropped client earned"
equal "$(curl -sf "$URL/incentives/client-1" | json "d['micro_tokens'] > 0")" True "whether the others earned"

step "a client that is killed in the middle comes back as itself"
equal "$(curl -sf "$URL/reputation/client-1" | json "d['dropouts']")" 0 "dropouts of a steady client"
verify_data
echo "PASSED: client dropout"
