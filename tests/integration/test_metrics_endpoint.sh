#!/usr/bin/env bash
# The metrics tell what happened, as JSON and for Prometheus.
source "$(dirname "$(readlink -f "$0")")/common.sh"

step "start a coordinator and let one client do two rounds"
start_coordinator '
name = "default"
[rounds]
total = 2
target_updates = 1
min_updates = 1'
start_client client-1 digits
wait_until 90 round_is 2 CLOSED

step "check the JSON metrics"
counted() { [ "$(curl -sf "$URL/metrics" | json "d['rounds_closed']")" = 2 ]; }
wait_until 10 counted  # metrics follow the journal, a moment behind
curl -sf "$URL/metrics" >"$WORK/metrics.json"
equal "$(json "d['updates_accepted']" <"$WORK/metrics.json")" 2 "accepted updates"
equal "$(json "d['events']['round_closed']" <"$WORK/metrics.json")" 2 "closed rounds in the journal"
equal "$(json "[r['round_id'] for r in d['rounds']]" <"$WORK/metrics.json")" "[1, 2]" "rounds"
equal "$(curl -sf "$URL/metrics/latest" | json "d['round_id']")" 2 "latest round"
equal "$(curl -sf "$URL/metrics/round/1" | json "(d['state'], d['updates_accepted'], d['result_version'])")" \
    "('CLOSED', 1, 'v2')" "round 1"
equal "$(curl -sf "$URL/metrics/round/1" | json "d['bytes_received'] > 4 * 3466")" True "bytes received"
equal "$(status_of GET /metrics/round/99)" 404 "metrics of an unknown round"

step "check the Prometheus text"
curl -sf -H 'Accept: text/plain' "$URL/metrics" >"$WORK/metrics.txt"
grep -q '^# TYPE fed_compute_' "$WORK/metrics.txt" || fail "no typed metric in the Prometheus text"
grep -Eq '^fed_compute_updates_total\{job_name="default",outcome="accepted"\} 2(\.0)?$' "$WORK/metrics.txt" || fail "wrong count of accepted updates"
verify_data
echo "PASSED: metrics"
