use super::*;

/// A host's cgroups: a directory for each hierarchy, and in it a pod's with its machine's.
struct Host {
    dir: tempfile::TempDir,
    hierarchies: Vec<Hierarchy>,
}

/// What the kernel calls a limit of memory in each version.
const MEMORY: [(Make, &str, &str); 2] =
    [(Host::unified, "memory.max", "max"), (Host::legacy, "memory.limit_in_bytes", UNLIMITED)];
const UNLIMITED: &str = "9223372036854771712";

type Make = fn() -> Host;

impl Host {
    fn unified() -> Self {
        Self::new(&[""])
    }

    fn legacy() -> Self {
        Self::new(&["cpu,cpuacct", "memory", "pids", "systemd"])
    }

    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hierarchy = |name: &&str| {
            let top = dir.path().join(name);
            let home = top.join("home");
            for path in ["home", "pod/machine"] {
                std::fs::create_dir_all(top.join(path)).unwrap();
            }
            Hierarchy::unified(top, home)
        };
        let hierarchies = names.iter().map(hierarchy).collect();
        Self { dir, hierarchies }
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::of(self.hierarchies.clone(), Path::new("pod/machine"))
    }

    /// The hierarchy that has a controller.
    fn top(&self, controller: &str) -> PathBuf {
        let own = self.dir.path().join(controller);
        if own.exists() { own } else { self.dir.path().to_owned() }
    }

    fn write(&self, controller: &str, file: &str, text: &str) {
        std::fs::write(self.top(controller).join(file), format!("{text}\n")).unwrap();
    }

    fn read(&self, controller: &str, file: &str) -> String {
        std::fs::read_to_string(self.top(controller).join(file)).unwrap().trim().to_owned()
    }
}

#[test]
fn pod_without_room_for_its_machine_is_refused_with_both_numbers() {
    for (host, file, unlimited) in MEMORY {
        for (limit, fits) in [(unlimited, true), ("50331648", false), ("134217728", true)] {
            let host = host();
            host.write("memory", &format!("pod/{file}"), limit);
            host.write("memory", &format!("pod/machine/{file}"), unlimited);
            let made = host.cgroup().make_room(188, 64);
            assert_eq!(made.is_ok(), fits, "{limit}");
            if let Err(error) = made {
                let text = error.to_string();
                assert!(text.contains("48 MiB") && text.contains("188 MiB"), "{text}");
                assert!(text.contains("RuntimeClass") && text.contains("/pod "), "{text}");
                assert!(text.contains(file), "{text}");
            }
        }
    }
}

#[test]
fn threads_are_bounded_where_the_pod_has_no_limit() {
    for (host, _, _) in MEMORY {
        for (pod_limit, own) in [("max", "16384"), ("1000", "max"), ("20", "max")] {
            let host = host();
            host.write("pids", "pod/pids.max", pod_limit);
            host.write("pids", "pod/machine/pids.max", "max");
            host.cgroup().bound_threads();
            assert_eq!(host.read("pids", "pod/machine/pids.max"), own, "{pod_limit}");
        }
    }
}

#[test]
fn kill_is_told_with_the_limit_that_was_met_and_once() {
    let unified = (Host::unified as Make, "memory.max", "memory.events", "memory.events", "oom 1");
    let legacy = (
        Host::legacy as Make,
        "memory.limit_in_bytes",
        "memory.oom_control",
        "memory.failcnt",
        "1",
    );
    for (host, limit, kills, met, times) in [unified, legacy] {
        let host = host();
        host.write("memory", &format!("pod/{limit}"), "134217728");
        let mut cgroup = host.cgroup();
        cgroup.make_room(268, 64).unwrap();
        assert_eq!(cgroup.out_of_memory(), None);
        host.write("memory", &format!("pod/machine/{kills}"), "oom 0\noom_kill 1");
        assert_eq!(cgroup.out_of_memory().unwrap(), "the host has none left");
        host.write("memory", &format!("pod/{met}"), times);
        let told = cgroup.out_of_memory().unwrap();
        assert!(told.contains("/pod has a limit of 128 MiB") && told.contains("268 MiB"), "{told}");
        assert!(told.contains(limit), "{told}");
        // What was killed before is no news to the next machine.
        assert_eq!(host.cgroup().out_of_memory(), None);
    }
}

#[test]
fn process_is_in_each_hierarchy_and_comes_back_home_from_each() {
    let host = Host::legacy();
    let cgroup = Cgroup::of(host.hierarchies.clone(), Path::new("pod/new"));
    cgroup.create().unwrap();
    cgroup.enter(4711).unwrap();
    let names = ["cpu,cpuacct", "memory", "pids", "systemd"];
    for name in names {
        assert_eq!(host.read(name, "pod/new/cgroup.procs"), "4711", "{name}");
    }
    // Files of a cgroup go with it, those of a test stay: the first that does is told.
    let error = cgroup.dissolve().unwrap_err().to_string();
    assert!(error.contains("cpu,cpuacct/pod/new"), "{error}");
    for name in names {
        assert_eq!(host.read(name, "home/cgroup.procs"), "4711", "{name}");
        std::fs::remove_file(host.top(name).join("pod/new/cgroup.procs")).unwrap();
    }
    cgroup.dissolve().unwrap();
    cgroup.dissolve().unwrap();
    assert!(cgroup.directories().all(|path| !path.exists()));
}
