# Source of deny-tmp.policy, made by AppArmor 3's
#   apparmor_parser -Q -S --kernel-features /etc/apparmor.d/abi/3.0 \
#     --policy-features /etc/apparmor.d/abi/3.0 deny-tmp.profile > deny-tmp.policy
# It allows everything but to write below /tmp.
profile cuddy-test-deny-tmp flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  mount,
  umount,
  pivot_root,
  signal,
  ptrace,
  unix,
  deny /tmp/** w,
}
