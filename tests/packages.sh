# Sourced by scripts that build tests.

# Every build of tests names the same packages. Cargo builds a crate that they share again for
# another choice, as that wants other features of it.
crates=(companion logs overlay vmm-api guest-io virtio vmm agent-api netlink syscalls network
    erofs image api host cni bridge machine protocol shim-client streaming template sandbox shim cri cli
    accounts agent lab harness perf repo)
packages=("${crates[@]/#/-p}")
