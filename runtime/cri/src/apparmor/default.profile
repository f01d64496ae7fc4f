# The AppArmor profile of containers on the node that ask for no other one. It lets through what
# containerd's profile of this name does, and is written for this project.

profile cri-containerd.apparmor.d flags=(attach_disconnected,mediate_deleted) {
  # What a container may do with these is bounded elsewhere: by its mounts, its namespaces, its
  # capabilities.
  file,
  network,
  capability,
  umount,

  # Processes of a container may signal and trace each other. The node's may signal them: those
  # without a profile, and runtimes that distributions give a profile of their own.
  signal (send, receive) peer=cri-containerd.apparmor.d,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  ptrace (trace, tracedby, read, readby) peer=cri-containerd.apparmor.d,
  ptrace (readby, tracedby) peer=unconfined,

  deny mount,

  # Of /proc, processes may be written to, and limits of shared memory.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/ke[^r]** w,
  deny /proc/sys/kernel/[^s]** w,
  deny /proc/sys/kernel/s[^h]** w,
  deny /proc/sys/kernel/sh[^m]** w,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/mem rwklx,
  deny /proc/kmem rwklx,

  # Of /sys, cgroups may be written to.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}
