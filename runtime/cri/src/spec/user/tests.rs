use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbad line\nhuge:x:4294967295:0::/:\n\
    www-data:x:33:34::/var/www:/bin/false\n web:x:1000:1001:Jos\xe9:/home:/bin/sh\nweb:x:0:0::/:\n";
const GROUP: &[u8] =
    b"root:x:0:\nwww-data:x:34:www-data\nlogs:x:50:www-data,web\nnobody\ndocker:x:999:web\n";

fn accounts() -> Accounts {
    Accounts { passwd: PASSWD.to_vec(), group: GROUP.to_vec() }
}

fn context(name: &str, uid: Option<i64>, gid: Option<i64>) -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        run_as_username: name.to_owned(),
        run_as_user: uid.map(|value| Int64Value { value }),
        run_as_group: gid.map(|value| Int64Value { value }),
        supplemental_groups: vec![7, 50],
        ..LinuxContainerSecurityContext::default()
    }
}

/// uid, gid and groups under runc.
fn resolved(
    context: &LinuxContainerSecurityContext,
    image: &str,
) -> Result<(u32, u32, Vec<u32>), String> {
    let request = request(context, image).map_err(|error| error.to_string())?;
    let (user, none) =
        user(&request, Runtime::Runc, Some(&accounts())).map_err(|error| error.to_string())?;
    assert_eq!((none, user.username()), (None, &None));
    Ok((user.uid(), user.gid(), user.additional_gids().clone().unwrap()))
}

#[test]
fn users_are_looked_up_as_containerd_does() {
    for (name, uid, gid, image, expected) in [
        ("", None, None, "", (0, 0, vec![0, 7, 50])),
        ("", None, None, "www-data", (33, 34, vec![7, 34, 50])),
        ("", None, None, "www-data:logs", (33, 50, vec![7, 50])),
        ("", None, None, "33", (33, 34, vec![7, 34, 50])),
        ("", None, None, "4:5", (4, 5, vec![5, 7, 50])),
        ("", None, None, ":34", (0, 34, vec![7, 34, 50])),
        ("", None, None, "web:", (1000, 0, vec![0, 7, 50, 999])),
        ("", Some(1000), None, "www-data", (1000, 1001, vec![7, 50, 999, 1001])),
        ("", Some(77), None, "www-data", (77, 0, vec![0, 7, 50])),
        ("", Some(1000), Some(3), "", (1000, 3, vec![3, 7, 50, 999])),
        ("web", Some(5), None, "", (1000, 1001, vec![7, 50, 999, 1001])),
        ("web", None, Some(2), "", (1000, 2, vec![2, 7, 50, 999])),
    ] {
        let found = resolved(&context(name, uid, gid), image);
        assert_eq!(found, Ok(expected), "{name:?} {uid:?} {gid:?} {image:?}");
    }
}

#[test]
fn strict_policy_has_no_groups_of_the_image() {
    let mut context = context("web", None, None);
    context.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
    assert_eq!(resolved(&context, ""), Ok((1000, 1001, vec![7, 50, 1001])));
    context.supplemental_groups_policy = 9;
    assert!(resolved(&context, "").unwrap_err().contains("supplementalGroupsPolicy 9"));
}

#[test]
fn what_nobody_can_be_is_said() {
    for (name, uid, gid, image, reason) in [
        ("", None, Some(5), "", "a group was asked for without a user"),
        ("", Some(-1), None, "", "out of range"),
        ("", Some(1 << 31), None, "", "out of range"),
        ("", Some(0), Some(-5), "", "out of range"),
        ("", None, None, "99999999999999999999", "out of range"),
        ("", None, None, "a:b:c", "not of the form"),
        ("0:0", None, None, "", "a name has no colon"),
        ("", None, None, "ghost", "user \"ghost\": not in /etc/passwd"),
        ("", None, None, "huge", "not in /etc/passwd"),
        ("", None, None, "web:ghost", "the group is not in /etc/group"),
    ] {
        let error = resolved(&context(name, uid, gid), image).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let mut groups = context("", None, None);
    groups.supplemental_groups = vec![1 << 32];
    assert!(resolved(&groups, "").unwrap_err().contains("group 4294967296"));
}

#[test]
fn without_the_images_users_a_name_is_refused() {
    let request = request(&context("web", None, None), "").unwrap();
    assert!(user(&request, Runtime::Runc, None).is_err());
}

#[test]
fn guest_looks_up_what_the_host_cannot_know() {
    let of = |text: &str, merge: bool| {
        let request = read(text, merge, &[9, 7]).unwrap();
        user(&request, Runtime::Machine, None).unwrap()
    };
    for (text, expected) in
        [("web", "web"), ("web:3", "web:3"), ("5", "5"), ("", "0"), (":3", "0:3")]
    {
        let (user, annotation) = of(text, true);
        assert_eq!(user.username().as_deref(), Some(expected));
        assert_eq!(user.additional_gids().as_deref(), Some(&[7, 9][..]));
        assert_eq!(annotation, Some("merge"));
    }
    // An agent that does not look must not take a name for root.
    let (user, _) = of("web", true);
    assert_eq!((user.uid(), user.gid()), (NOBODY, NOBODY));
    let (user, _) = of("5:6", false);
    assert_eq!((user.uid(), user.gid(), user.username()), (5, 6, &None));
    assert_eq!(user.additional_gids().as_deref(), Some(&[6, 7, 9][..]));
    assert_eq!(of("5:6", false).1, None);
}
