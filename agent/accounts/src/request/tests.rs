use super::*;

fn files() -> Files {
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad line\nhuge:x:4294967295:0::/:\n\
        www-data:x:33:34::/var/www:/bin/false\n web:x:1000:1001:Jos\xe9:/h\xff:/bin/sh\n\
        web:x:0:0::/:\n\xfe:\nlast:x:7:7::/last";
    let group = b"root:x:0:\nwww-data:x:34:www-data\nlogs:x:50:www-data,web\nnobody\n\
        docker:x:999:web\n:x:60:";
    Files { passwd: passwd.to_vec(), group: group.to_vec() }
}

fn merged(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
    let request = Request::parse(text, true, vec![50, 7]).map_err(|error| error.to_string())?;
    let ids = request.resolve(&files()).map_err(|error| error.to_string())?;
    Ok((ids.uid, ids.gid, ids.groups))
}

#[test]
fn names_and_numbers_are_looked_up() {
    for (text, expected) in [
        ("", (0, 0, vec![0, 7, 50])),
        ("www-data", (33, 34, vec![7, 34, 50])),
        ("www-data:logs", (33, 50, vec![7, 50])),
        ("33", (33, 34, vec![7, 34, 50])),
        ("4", (4, 0, vec![0, 7, 50])),
        ("4:5", (4, 5, vec![5, 7, 50])),
        (":34", (0, 34, vec![7, 34, 50])),
        ("web", (1000, 1001, vec![7, 50, 999, 1001])),
        ("web:", (1000, 0, vec![0, 7, 50, 999])),
        ("last", (7, 7, vec![7, 50])),
    ] {
        assert_eq!(merged(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn image_adds_no_groups_unless_it_shall() {
    let request = Request::parse("web", false, vec![7]).unwrap();
    assert_eq!(request.resolve(&files()).unwrap().groups, [7, 1001]);
}

#[test]
fn who_is_not_there_is_told() {
    for (text, reason) in [
        ("ghost", "not in /etc/passwd of the image"),
        ("huge", "not in /etc/passwd of the image"),
        ("web:ghost", "the group is not in /etc/group of the image"),
        ("1:ghost", "the group is not in /etc/group of the image"),
        ("a:b:c", "not of the form user or user:group"),
        ("a\0", "not of the form user or user:group"),
        ("-1", "an id is out of range, 0 to 2147483647"),
        ("0:2147483648", "an id is out of range, 0 to 2147483647"),
        ("99999999999999999999", "an id is out of range, 0 to 2147483647"),
    ] {
        assert_eq!(merged(text), Err(reason.to_owned()), "{text:?}");
    }
    let nobody = Request::parse("web", true, Vec::new()).unwrap().resolve(&Files::default());
    assert!(matches!(nobody, Err(AccountError::NoUser)));
}

#[test]
fn process_gets_no_more_groups_than_it_can_have() {
    let in_groups = |count: usize| {
        let lines = (1..count).map(|id| format!("g{id}:x:{id}:web\n"));
        let files = Files { group: lines.collect::<String>().into_bytes(), ..files() };
        Request::parse("web:0", true, Vec::new()).unwrap().resolve(&files)
    };
    assert_eq!(in_groups(MAX_GROUPS).unwrap().groups.len(), MAX_GROUPS);
    assert!(matches!(in_groups(MAX_GROUPS + 1), Err(AccountError::Groups)));
}

#[test]
fn home_is_the_sixth_field_of_the_first_line() {
    let files = files();
    assert_eq!(files.home(33), Some(&b"/var/www"[..]));
    assert_eq!(files.home(1000), Some(&b"/h\xff"[..]));
    assert_eq!(files.home(0), Some(&b"/root"[..]));
    assert_eq!(files.home(7), Some(&b"/last"[..]));
    assert_eq!(files.home(34), None);
}
