#!/bin/sh
# Runs the job from cron, and mails only what needs attention: the message, and what to do about it.
cd /srv/propsync || exit 1
night=$(mktemp -d) || exit 1
trap 'rm -rf "$night"' EXIT
propsync run nightly.yml --max-rejects 1% --log-format text \
    --metrics-file nightly.prom --report nightly.html >"$night/summary" 2>"$night/log"
code=$?
cat "$night/log" "$night/summary" >>nightly.log
case $code in
    0 | 6) exit $code ;; # 6: the run before is still active
    3) text=$(cat "$night/summary"; grep '^rejects: ' "$night/log") ;;
    *) text=$(grep -v '^[0-9-]*T[0-9:.]*Z ' "$night/log") ;; # without the log lines
esac
printf '%s\n' "$text" | mail -s "propsync nightly: exit code $code" "${MAILTO:-root}"
exit $code
