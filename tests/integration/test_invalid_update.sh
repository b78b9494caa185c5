#!/usr/bin/env bash
# Bad updates are refused with a stable code, change nothing, and a good one still counts.
source "$(dirname "$(readlink -f "$0")")/common.sh"

step "start a coordinator with a model of six numbers"
start_coordinator '
name = "default"
[model]
name = "linear"
args = { input_dim = 2, output_dim = 2 }
[rounds]
total = 1
target_updates = 1
min_updates = 1'
KEY="$(register client-1)"
OTHER="$(register client-2)"

# post KEY WEIGHT_DELTA_AS_JSON_TEXT: prints the status
post() {
    "$PYTHON" -c "import json, sys; print(json.dumps({'client_id': 'client-1', 'round_id': int(sys.argv[3]), 'weight_delta': sys.argv[2], 'api_key': sys.argv[1]}))" \
        "$1" "$2" "${3:-1}" >"$WORK/request"
    status_of POST /update -H 'Content-Type: application/json' -d "@$WORK/request"
}
# refused STATUS CODE: assert on the last answer
refused() {
    equal "$LAST" "$1" "status"
    equal "$(json "d['code']" <"$WORK/body")" "$2" "code"
    equal "$(curl -sf "$URL/status/1" | json "d['total_updates']")" 0 "updates after a refusal"
}
GOOD='{"output.weight": [[0.1, 0.2], [0.3, 0.4]], "output.bias": [0.5, 0.6]}'

step "refuse what comes from the wrong sender"
LAST="$(post "$KEY" "$GOOD")"; refused 403 not_assigned
equal "$(status_of GET "/task/client-1?api_key=$KEY")" 200 "task for client-1"
LAST="$(post "$OTHER" "$GOOD")"; refused 401 authentication_failed
LAST="$(post sk_nonsense "$GOOD")"; refused 401 authentication_failed
LAST="$(post "$KEY" "$GOOD" 99)"; refused 404 round_not_found

step "refuse what is not an update of this model"
LAST="$(post "$KEY" 'not json')"; refused 422 update_malformed
LAST="$(post "$KEY" '{"output.weight": [[0.1, 0.2], [0.3, 0.4]]}')"; refused 422 update_tensor_mismatch
LAST="$(post "$KEY" '{"output.weight": [[0.1, 0.2]], "output.bias": [0.5, 0.6]}')"; refused 422 update_shape_mismatch
LAST="$(post "$KEY" '{"output.weight": [[true, 0.2], [0.3, 0.4]], "output.bias": [0.5, 0.6]}')"; refused 422 update_malformed

step "refuse values that would spoil the model"
LAST="$(post "$KEY" '{"output.weight": [[NaN, 0.2], [0.3, 0.4]], "output.bias": [0.5, 0.6]}')"; refused 422 update_not_finite
LAST="$(post "$KEY" '{"output.weight": [[1e39, 0.2], [0.3, 0.4]], "output.bias": [0.5, 0.6]}')"; refused 422 update_not_finite
LAST="$(post "$KEY" '{"output.weight": [[1e6, 0.2], [0.3, 0.4]], "output.bias": [0.5, 0.6]}')"; refused 422 update_norm_too_large

step "a good update still counts, once"
equal "$(post "$KEY" "$GOOD")" 200 "a good update"
equal "$(json "d['message']" <"$WORK/body")" "Update from client client-1 submitted successfully for round 1" "message"
equal "$(post "$KEY" "$GOOD")" 200 "the same update again"
equal "$(json "d['repeated']" <"$WORK/body")" True "whether the second was a repetition"
equal "$(post "$KEY" '[[[9, 9], [9, 9]], [9, 9]]')" 409 "another update for the same task"
equal "$(json "d['code']" <"$WORK/body")" update_conflict "code"
wait_until 30 round_is 1 CLOSED
equal "$(curl -sf "$URL/reputation/client-1" | json "(d['updates_accepted'], d['updates_refused'])")" "(1, 7)" "accepted and refused"
verify_data
echo "PASSED: invalid updates"
