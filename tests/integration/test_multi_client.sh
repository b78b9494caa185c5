#!/usr/bin/env bash
# Three clients on disjoint parts of the data take part in every round.
source "$(dirname "$(readlink -f "$0")")/common.sh"

step "start a coordinator with three rounds for three clients"
start_coordinator '
name = "default"
[rounds]
total = 3
target_updates = 3
min_updates = 3'

step "start three clients"
for i in 1 2 3; do start_client "client-$i" "digits,part=$i/3"; done
wait_until 150 round_is 3 CLOSED

step "check every round"
for round in 1 2 3; do
    equal "$(curl -sf "$URL/status/$round" | json "d['total_updates']")" 3 "updates of round $round"
    equal "$(curl -sf "$URL/status/$round" | json "sorted(d['updates_received'])")" \
        "['client-1', 'client-2', 'client-3']" "clients of round $round"
    equal "$(curl -sf "$URL/aggregate/$round" | json "d['model_version']")" "v$((round + 1))" "result of round $round"
done

step "check that the model learned something on data nobody trained on"
evaluated() { curl -sf "$URL/metrics/round/3" | json "d['evaluations'] == 3 or sys.exit(1)"; }
wait_until 60 evaluated
accuracy="$(curl -sf "$URL/metrics/round/3" | json "d['accuracy']")"
"$PYTHON" -c "import sys; sys.exit(not float('$accuracy') > 0.3)" || fail "accuracy is $accuracy, chance is 0.1"
echo "held-out accuracy after three rounds: $accuracy"
verify_data
echo "PASSED: multiple clients"
