use super::*;

const FAILED: Result<(), &dyn Display> = Err(&"exit status: 1");

fn error(ended: Result<(), &dyn Display>, output: &str, errors: &str) -> Error {
    parse("br", Verb::Add, ended, output.as_bytes(), errors.as_bytes()).unwrap_err()
}

#[test]
fn plugins_own_error_is_typed_and_names_plugin_and_command() {
    let output = r#"{"cniVersion": "1.0.0", "code": 11, "msg": "try again", "details": "later"}"#;
    let error = error(FAILED, output, "a log");
    let Error::Plugin { plugin, verb: Verb::Add, code: 11, msg, details } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((plugin.as_str(), msg.as_str(), details.as_str()), ("br", "try again", "later"));
    let text = "CNI plugin br failed to ADD: try again: later (code 11)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn error_of_a_plugin_that_says_to_have_succeeded_counts() {
    let error = error(Ok(()), r#"{"code": 7, "msg": "bad"}"#, "");
    assert_eq!(error.to_string(), "CNI plugin br failed to ADD: bad (code 7)");
}

#[test]
fn failure_without_a_typed_error_shows_what_was_said() {
    for (output, errors, said) in [
        (
            "",
            "panic: nil\n\n at x",
            "CNI plugin br failed to ADD: exit status: 1: panic: nil; at x",
        ),
        ("oh", "", "CNI plugin br failed to ADD: exit status: 1: oh"),
        ("", "", "CNI plugin br failed to ADD: exit status: 1"),
        (r#"{"code": 0}"#, "", r#"CNI plugin br failed to ADD: exit status: 1: {"code": 0}"#),
        (r#"{"ips": []}"#, "\x1b[2J", "CNI plugin br failed to ADD: exit status: 1: ?[2J"),
    ] {
        assert_eq!(error(FAILED, output, errors).to_string(), said);
    }
}

#[test]
fn success_with_rubbish_is_none() {
    for (output, problem) in [
        ("", "answer to ADD: there is none"),
        (" \n", "answer to ADD: there is none"),
        ("done!", "answer to ADD: it is no JSON object: done!"),
        ("[]", "answer to ADD: it is no JSON object: []"),
        ("{} {}", "answer to ADD: it is no JSON object: {} {}"),
    ] {
        let text = error(Ok(()), output, "").to_string();
        assert_eq!(text, format!("CNI plugin br, {problem}"));
    }
    for verb in [Verb::Del, Verb::Check, Verb::Status, Verb::Gc] {
        let answer = parse("br", verb, Ok(()), b"done!", b"");
        assert!(answer.is_ok_and(|answer| answer.is_empty()), "{verb} has no answer");
    }
}

#[test]
fn long_text_of_a_plugin_is_cut() {
    let output = format!(r#"{{"code": 1, "msg": "{}"}}"#, "m".repeat(1 << 19));
    assert!(error(FAILED, &output, "").to_string().len() < 2048);
    assert!(error(FAILED, "", &"e\n".repeat(1 << 19)).to_string().len() < 2048);
}
