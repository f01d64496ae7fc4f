use super::*;

fn plan() -> Plan {
    Plan { name: "web".into(), nonce: "n1".into(), image: "busybox".into(), ..Plan::default() }
}

#[test]
fn pod_and_container_have_the_name_and_the_limits() {
    let plan = Plan { memory: 1 << 30, cpus: 50_000, ..plan() };
    let (pod, container) = (plan.pod(), plan.container("sha256:1"));
    assert_eq!(pod.metadata.unwrap().uid, "cuddy-web");
    assert_eq!((&*pod.hostname, &*pod.labels[NAME], &*pod.labels[OWN]), ("web", "web", "n1"));
    assert_eq!(container.labels[NAME], "web");
    assert_eq!(pod.annotations[ENDS], "true");
    assert!(!container.labels.contains_key(OWN));
    let of_pod = pod.linux.unwrap().resources.unwrap();
    let own = container.linux.unwrap().resources.unwrap();
    assert_eq!(of_pod, own);
    assert_eq!(
        (own.memory_limit_in_bytes, own.cpu_quota, own.cpu_period),
        (1 << 30, 50_000, PERIOD)
    );
    let image = container.image.unwrap();
    assert_eq!((&*image.image, &*image.user_specified_image), ("sha256:1", "busybox"));
}

#[test]
fn entrypoint_takes_the_place_of_the_images() {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let of = |entrypoint: Option<&str>| {
        let entrypoint = entrypoint.map(str::to_owned);
        let container = Plan { entrypoint, args: words(&["a", "b"]), ..plan() }.container("");
        (container.command, container.args)
    };
    assert_eq!(of(None), (vec![], words(&["a", "b"])));
    assert_eq!(of(Some("sh")), (words(&["sh"]), words(&["a", "b"])));
    assert_eq!(of(Some("")), (words(&["a", "b"]), vec![]));
}

#[test]
fn ports_are_the_pods_and_are_shown_at_the_container() {
    let plan = Plan { ports: vec![port::port("80:8080").unwrap()], ..plan() };
    assert_eq!(plan.pod().port_mappings.len(), 1);
    assert_eq!(plan.container("").annotations[PORTS], "0.0.0.0:80->8080/tcp");
}

#[test]
fn name_is_of_letters_that_hosts_have() {
    assert_eq!(wrong_name("web-1.x_y"), None);
    for name in ["", "-a", "a b", "ä", "a/b", &"x".repeat(64)] {
        assert!(wrong_name(name).is_some(), "{name}");
    }
    assert_eq!(name("registry:5000/lib/busybox:1.36", "ab12"), "busybox-ab12");
    assert_eq!(name("busybox@sha256:1", "ab12"), "busybox-ab12");
    assert_eq!(name("_", "ab12"), "run-ab12");
}

#[test]
fn terminal_has_its_size_from_the_first_moment() {
    let size = |tty| {
        let plan = Plan { tty, size: Some((132, 43)), ..plan() };
        plan.container("").annotations.get(TERMINAL_SIZE).cloned()
    };
    assert_eq!((size(true).as_deref(), size(false)), (Some("132x43"), None));
}

#[test]
fn input_ends_with_who_sends_it_but_a_terminals_goes_on() {
    let once = |tty| Plan { stdin: true, tty, ..plan() }.container("").stdin_once;
    assert!(once(false) && !once(true));
}
