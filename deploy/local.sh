#!/usr/bin/env bash
# A whole cluster on this machine, for trying out. See deploy/README.md.
set -u

ROOT=$(cd "$(dirname "$0")/.." && pwd)
BIN=$ROOT/build/bin
. "$ROOT/deploy/build.sh"

SERVE_WAIT_S=60
STOP_WAIT_S=30
HERE=${0/#"$PWD/"/}

usage() {
    cat <<END
usage: $HERE COMMAND [--nodes 3] [--routers 2] [--port 7400] [--dir DIR]

  up          install what is missing, build, start nodes and routers, wait until they serve
  down        end all processes; the data stays
  status      which processes run, and what the cluster says
  kill NAME   end n1, n2, ... (nodes) or r1, r2, ... (routers) at once (SIGKILL)
  stop NAME   ask it to end (SIGTERM) and wait until it has
  start NAME  start it again

  --port P    routers listen on P, P+1, ...; nodes on P+100, P+103, ... (three ports each)
  --dir DIR   pids, logs, data (default: build/local, or build/local-P for another port)

Everything listens on 127.0.0.1 only.
END
}

die() {
    echo "$HERE: $*" >&2
    exit 1
}

wrong_use() {
    echo "$HERE: $*" >&2
    usage >&2
    exit 2
}

# ---- arguments and settings ----------------------------------------------------------------

command='' target='' nodes='' routers='' port='' dir=''

number() { # NAME VALUE MIN MAX
    [[ $2 =~ ^[0-9]{1,6}$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] ||
        wrong_use "$1 is '$2'; it takes a number from $3 to $4"
}

parse() {
    local word value
    while [ $# -gt 0 ]; do
        word=$1
        shift
        case $word in
        -h | --help) usage; exit 0 ;;
        --nodes | --routers | --port | --dir)
            [ $# -gt 0 ] || wrong_use "$word needs a value"
            value=$1
            shift
            ;;&
        --nodes=* | --routers=* | --port=* | --dir=*) value=${word#*=} ;;&
        --nodes | --nodes=*) number --nodes "$value" 1 64; nodes=$((10#$value)) ;;
        --routers | --routers=*) number --routers "$value" 1 64; routers=$((10#$value)) ;;
        --port | --port=*) number --port "$value" 1024 32000; port=$((10#$value)) ;;
        --dir | --dir=*) [ -n "$value" ] || wrong_use "--dir is empty"; dir=$value ;;
        -*) wrong_use "unknown option '$word'" ;;
        *)
            if [ -z "$command" ]; then command=$word
            elif [ -z "$target" ]; then target=$word
            else wrong_use "what is '$word'?"; fi
            ;;
        esac
    done
    case $command in
    up | down | status) [ -z "$target" ] || wrong_use "$command takes no '$target'" ;;
    kill | stop | start) [ -n "$target" ] || wrong_use "$command what? n1, n2, ... or r1, r2, ..." ;;
    '') wrong_use "up, down, status, kill, stop or start?" ;;
    *) wrong_use "unknown command '$command'" ;;
    esac
}

# The first `up` fixes nodes, routers and port of DIR; later commands find them there.
settings() {
    local saved_nodes='' saved_routers='' saved_port='' name value
    if [ -z "$dir" ]; then
        dir=$ROOT/build/local
        [ "${port:-7400}" = 7400 ] || dir=$dir-$port
    fi
    if [ -f "$dir/settings" ]; then
        while read -r name value; do
            case $name in
            nodes) saved_nodes=$value ;;
            routers) saved_routers=$value ;;
            port) saved_port=$value ;;
            esac
        done <"$dir/settings"
        agree --nodes "$nodes" "$saved_nodes"
        agree --port "$port" "$saved_port"
    elif [ "$command" != up ]; then
        die "no cluster in $dir; make one with: $HERE up (or say --port or --dir as when it was made)"
    fi
    nodes=${saved_nodes:-${nodes:-3}}
    routers=${routers:-${saved_routers:-2}}
    port=${saved_port:-${port:-7400}}
    mkdir -p "$dir" && dir=$(cd "$dir" && pwd) || die "cannot make $dir"
}

agree() { # FLAG GIVEN SAVED
    [ -z "$2" ] || [ "$2" = "$3" ] ||
        die "$dir holds a cluster with $1 $3; choose another --dir, or end it (down) and remove $dir"
}

node_port() { echo $((port + 100 + 3 * ($1 - 1))); }
router_port() { echo $((port + $1 - 1)); }

names() {
    local i
    for ((i = 1; i <= nodes; i++)); do echo "n$i"; done
    for ((i = 1; i <= routers; i++)); do echo "r$i"; done
}

known() {
    names | grep -qx -- "$1" || die "no '$1' here; there are: $(names | tr '\n' ' ')"
}

address() { # of n2 or r1
    local index=${1#?}
    case $1 in
    n*) echo "tcp://127.0.0.1:$(node_port "$index")" ;;
    r*) echo "tcp://127.0.0.1:$(router_port "$index")" ;;
    esac
}

addresses() { # n or r: all of them, with commas
    local name list=
    for name in $(names | grep "^$1"); do list+=${list:+,}$(address "$name"); done
    echo "$list"
}

program() { case $1 in n*) echo duet-storage ;; r*) echo duet-router ;; esac; }

# ---- processes -----------------------------------------------------------------------------

# When the process with this pid began, in the kernel's ticks: with the pid it names one process
# and never another that got the same number later.
began() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    stat=${stat##*) }
    set -- $stat
    [ "$1" != Z ] && echo "${20}"
}

# The pid of NAME when it runs and is still the process that was started here.
running() {
    local pid start
    { read -r pid start <"$dir/pids/$1"; } 2>/dev/null || return 1
    [ "$(began "$pid")" = "$start" ] && [ "$(command_of "$pid")" = "$(program "$1")" ] &&
        echo "$pid"
}

command_of() { # PID: the program that it runs
    local words=
    { IFS= read -r -d '' words <"/proc/$1/cmdline"; } 2>/dev/null
    echo "${words##*/}"
}

launch() { # NAME: start it unless it runs
    local name=$1 pid start arguments=() clean=() variable
    running "$name" >/dev/null && return 0
    case $name in
    n*) arguments=(--cluster "$dir/cluster.conf" --name "$name" --dir "$dir/data/$name") ;;
    r*) arguments=(--name "$name" --listen "$(address "$name")" --nodes "$(addresses n)") ;;
    esac
    # What this shell has set for other clusters is not for this one.
    for variable in $(compgen -e DUET_); do clean+=(-u "$variable"); done
    mkdir -p "$dir/pids" "$dir/logs" "$dir/data" || die "cannot write into $dir"
    # 9 is the lock: it must not live as long as the process.
    setsid env ${clean[@]+"${clean[@]}"} "$BIN/$(program "$name")" "${arguments[@]}" \
        >>"$dir/logs/$name" 2>&1 </dev/null 9>&- &
    pid=$!
    start=$(began "$pid") || start=gone
    echo "$pid $start" >"$dir/pids/$name"
    # Until setsid and env have become the program, it does not count as running.
    while [ "$(began "$pid")" = "$start" ] && [ "$(command_of "$pid")" != "$(program "$name")" ]; do
        sleep 0.01
    done
}

# Send SIGNAL to NAME and wait until it is gone; 1 when it is not in time.
finish() { # NAME SIGNAL
    local pid tries
    pid=$(running "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null
    for ((tries = STOP_WAIT_S * 20; tries > 0; tries--)); do
        running "$1" >/dev/null || return 0
        sleep 0.05
    done
    return 1
}

end_now() { # NAME: ask, then insist
    finish "$1" TERM && return 0
    echo "$1 did not end within $STOP_WAIT_S s; killing it" >&2
    finish "$1" KILL
}

# ---- the cluster ---------------------------------------------------------------------------

prepare() {
    local fresh=
    # shellcheck disable=SC2086 # the list is meant to be split
    packages_install $PACKAGES_BUILD || exit 1
    # Tests need more packages than a cluster does; but a build that has them keeps them.
    [ -f "$ROOT/build/CMakeCache.txt" ] || fresh=-DDUET_TESTS=OFF
    build_in "$ROOT" "$ROOT/build" -DDUET_SANITIZE= $fresh -- \
        duet-storage duet-router duet || exit 1
}

cluster_file() {
    local i list=
    [ -s "$dir/cluster.conf" ] && return 0
    for ((i = 1; i <= nodes; i++)); do list+=${list:+,}n$i=$(address "n$i"); done
    "$BIN/duet-storage" --found --nodes "$list" --partitions 1024 \
        --copies $((nodes < 2 ? nodes : 2)) >"$dir/cluster.conf.new" &&
        mv "$dir/cluster.conf.new" "$dir/cluster.conf" || die "cannot make the cluster file"
}

ask() { "$BIN/duet" --routers "$(addresses r)" "$@" 9>&-; }

# Wait until the cluster says that all is well: no process may have ended meanwhile.
wait_serving() {
    local name out until=$((SECONDS + SERVE_WAIT_S))
    while :; do
        for name in $(names); do
            running "$name" >/dev/null && continue
            echo "$name ended; the last lines of its log, $dir/logs/$name:" >&2
            tail -n 5 "$dir/logs/$name" >&2
            return 1
        done
        out=$(ask status 2>&1) && return 0
        if [ $SECONDS -ge $until ]; then
            printf '%s\n' "$out" "does not serve after $SERVE_WAIT_S s; logs are in $dir/logs" >&2
            return 1
        fi
        sleep 0.1
    done
}

up() {
    local name was
    prepare
    cluster_file
    printf '%s\n' "nodes $nodes" "routers $routers" "port $port" >"$dir/settings"
    was=$(for name in $(names); do running "$name" >/dev/null && echo "$name"; done)
    for name in $(names); do launch "$name"; done
    if ! wait_serving; then
        # What ran before stays; what was started for nothing does not.
        for name in $(names); do
            grep -qx "$name" <<<"$was" || end_now "$name"
        done
        die "the cluster did not come up"
    fi
    cat <<END

The cluster serves.

  routers  $(addresses r)
  nodes    $(addresses n)
  data     $dir

Try:

  export DUET_ROUTERS=$(addresses r)
  $BIN/duet put greeting hello
  $BIN/duet get greeting
  $BIN/duet status
END
}

down() {
    local name code=0
    # Routers first, so that no client waits for a node that will not answer. A router of an
    # earlier `up` with more of them is ended too.
    for name in $(find "$dir/pids" -mindepth 1 -printf '%f\n' 2>/dev/null | sort -r); do
        if running "$name" >/dev/null; then
            end_now "$name" && echo "$name ended" || code=1
        fi
    done
    echo "the data stays in $dir"
    return $code
}

status() {
    local name pid code=0
    for name in $(names); do
        if pid=$(running "$name"); then
            echo "$name  $(address "$name")  pid $pid"
        else
            echo "$name  $(address "$name")  not running"
            code=1
        fi
    done
    echo
    [ -x "$BIN/duet" ] || die "no $BIN/duet; build it with: $HERE up"
    ask status || code=1
    return $code
}

start_one() {
    local tries
    [ -x "$BIN/$(program "$target")" ] || die "no $BIN/$(program "$target"); build it with: $HERE up"
    launch "$target"
    # Wrong options, a port in use or a locked directory show at once.
    for ((tries = 10; tries > 0; tries--)); do
        running "$target" >/dev/null || {
            tail -n 5 "$dir/logs/$target" >&2
            die "$target ended"
        }
        sleep 0.02
    done
    echo "$target runs, pid $(running "$target")"
}

parse "$@"
settings
exec 9>"$dir/lock"
flock -n 9 || { echo "waiting for another $HERE at work in $dir" >&2; flock 9; }
case $command in
up) up ;;
down) down ;;
status) exec 9>&-; status ;;
kill)
    known "$target"
    finish "$target" KILL && echo "$target killed" || die "$target does not die"
    ;;
stop)
    known "$target"
    finish "$target" TERM && echo "$target ended" || die "$target did not end within $STOP_WAIT_S s"
    ;;
start) known "$target"; start_one ;;
esac
