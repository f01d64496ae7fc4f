//! What the error stream says at the end: from version 4 on one `metav1.Status` as JSON, before
//! that a text, or nothing. The texts are those of `k8s.io/cri-streaming`.

use serde_json::json;

use crate::negotiate::Version;

/// The content of the error stream. `doing` is what fails in an error.
pub(super) fn of(outcome: &Result<u32, String>, doing: &str, version: Version) -> Vec<u8> {
    let (message, status) = match outcome {
        Ok(0) => (String::new(), json!({ "metadata": {}, "status": "Success" })),
        Ok(code) => {
            let message = format!("command terminated with non-zero exit code: exit status {code}");
            let causes = json!([{ "reason": "ExitCode", "message": code.to_string() }]);
            let status = json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "NonZeroExitCode",
                "details": { "causes": causes },
            });
            (message, status)
        }
        Err(error) => {
            let message = format!("Internal error occurred: {doing}: {error}");
            let status = json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "InternalError",
                "code": 500,
            });
            (message, status)
        }
    };
    if version >= Version::V4 { status.to_string().into_bytes() } else { message.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: Result<u32, &str>, version: Version) -> String {
        let outcome = outcome.map_err(str::to_owned);
        String::from_utf8(of(&outcome, "error attaching to container", version)).unwrap()
    }

    #[test]
    fn status_is_json_from_version_4_on() {
        assert_eq!(text(Ok(0), Version::V4), r#"{"metadata":{},"status":"Success"}"#);
        let failure: serde_json::Value = serde_json::from_str(&text(Ok(42), Version::V4)).unwrap();
        assert_eq!(failure["reason"], "NonZeroExitCode");
        let cause = json!([{ "reason": "ExitCode", "message": "42" }]);
        assert_eq!(failure["details"]["causes"], cause);
        let error: serde_json::Value = serde_json::from_str(&text(Err("x"), Version::V4)).unwrap();
        assert_eq!(
            (&error["reason"], &error["code"], &error["status"]),
            (&json!("InternalError"), &json!(500), &json!("Failure"))
        );
        let message = "Internal error occurred: error attaching to container: x";
        assert_eq!(error["message"], message);
    }

    #[test]
    fn status_is_text_before_version_4() {
        for version in [Version::V1, Version::V2, Version::V3] {
            assert_eq!(text(Ok(0), version), "");
            let exit = "command terminated with non-zero exit code: exit status 3";
            assert_eq!(text(Ok(3), version), exit);
            assert!(text(Err("no such file"), version).ends_with(": no such file"));
        }
    }
}
