# What deploy/local.sh and tests/run share: packages and builds. Sourced by bash, not run.

PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev
    libzmq3-dev libczmq-dev libssl-dev liblmdb-dev libxxhash-dev libjansson-dev uthash-dev
    libedit-dev libsystemd-dev"
PACKAGES_TESTS="libcmocka-dev python3 python3-zmq python3-protobuf protobuf-compiler g++ libuv1-dev
    abigail-tools doxygen mandoc systemd strace"
PACKAGES_FUZZ="clang libclang-rt-14-dev"  # only for tests/fuzz/run
PACKAGES_VERSUS="libhiredis-dev redis-tools"  # only for tests/bench/versus and failover
PACKAGES_MODEL="spin"  # only for tests/run --long and tests/run model

# Install those of the named Debian packages that are missing. Does nothing, and needs no network,
# when none is.
packages_install() {
    local missing=() name root=()
    for name in "$@"; do
        case $(dpkg-query -W -f='${Status}' "$name" 2>/dev/null) in
        "install ok installed") ;;
        *) missing+=("$name") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing: ${missing[*]}" >&2
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "missing packages, and neither root nor sudo: apt-get install ${missing[*]}" >&2
            return 1
        }
        root=(sudo)
    fi
    "${root[@]}" apt-get update -q >&2 || echo "apt-get update failed; going on with the lists that are there" >&2
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 || {
        echo "could not install: ${missing[*]}" >&2
        return 1
    }
}

# build_in ROOT DIR CMAKE-ARGUMENTS... -- TARGETS...: configure DIR and build the targets (all, when
# none is named). Quiet unless it fails.
build_in() {
    local root=$1 dir=$2 arguments=() generator=() output code
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do arguments+=("$1"); shift; done
    [ $# -gt 0 ] && shift
    # A folder that was configured before keeps its generator.
    [ -f "$dir/CMakeCache.txt" ] || generator=(-G Ninja)
    echo "building in $dir" >&2
    output=$(mktemp)
    cmake "${generator[@]}" -S "$root" -B "$dir" "${arguments[@]}" >"$output" 2>&1 &&
        cmake --build "$dir" --parallel "$(nproc)" ${1+--target "$@"} >>"$output" 2>&1
    code=$?
    [ $code -eq 0 ] || { tail -n 60 "$output"; echo "the build in $dir failed"; } >&2
    rm -f "$output"
    return $code
}
