use std::time::{Duration, SystemTime};

use super::token::{MAX_LIFETIME, MIN_LIFETIME, Token, TokenError, tries_next};
use super::*;
use crate::tests::Noise;

const HUB: &str = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#;

fn headers(values: &[&str]) -> HeaderMap {
    let values = values.iter().map(|value| (WWW_AUTHENTICATE, value.parse().unwrap()));
    values.collect()
}

fn strongest(values: &[&str]) -> Result<Challenge, ChallengeError> {
    Challenge::strongest(&headers(values))
}

fn bearer(value: &str) -> Bearer {
    match strongest(&[value]) {
        Ok(Challenge::Bearer(bearer)) => bearer,
        other => panic!("{value}: {other:?}"),
    }
}

fn password() -> Credentials {
    Credentials::Password { user: "us er".into(), password: Secret::new("p&w") }
}

fn requests(
    value: &str,
    credentials: Option<&Credentials>,
) -> Result<Vec<TokenRequest>, ChallengeError> {
    let challenge = strongest(&[value])?;
    match challenge.reply(Transport::Https, "repository:a/b:pull", credentials)? {
        Reply::Ask(requests) => Ok(requests),
        Reply::Authorization(_) => panic!("{value}"),
    }
}

#[test]
fn a_challenge_of_docker() {
    let found = bearer(HUB);
    assert_eq!(found.realm, "https://auth.docker.io/token");
    assert_eq!(found.service.as_deref(), Some("registry.docker.io"));
    assert_eq!(found.scopes, ["repository:library/busybox:pull"]);
    assert_eq!(found.error, None);
}

#[test]
fn forms_of_challenges() {
    for value in [
        r#"bearer realm="r""#,
        "Bearer realm=r",
        r#"Bearer   realm = "r" , x=y"#,
        r#",, Basic realm="x", Bearer REALM="r""#,
        r#"Negotiate YII==, Bearer realm="r""#,
        r#"Negotiate, Bearer realm="r""#,
        r#"NTLM TlRM/+, Basic, Bearer realm="r", Digest nonce="n""#,
        r#"Bearer realm="q", realm="r""#,
        r#"Bearer realm="\r""#,
        r#"Bearer realm="r", "trailing"#,
        r#"Bearer realm="r" nonsense"#,
        r#"Bearer realm="r", a="unfinished"#,
    ] {
        assert_eq!(bearer(value).realm, "r", "{value}");
    }
    let quoted = bearer(r#"Bearer realm="a \"b\", c=\\d",error="insufficient_scope", empty="""#);
    assert_eq!(quoted.realm, r#"a "b", c=\d"#);
    assert_eq!(quoted.error.as_deref(), Some("insufficient_scope"));
    let scopes = bearer(r#"Bearer scope="repository:a:pull,push  repository:b:pull""#).scopes;
    assert_eq!(scopes, ["repository:a:pull,push", "repository:b:pull"]);
    assert_eq!(bearer("Bearer").realm, "");
}

#[test]
fn a_token_is_better_than_a_password() {
    let token = strongest(&["Basic realm=x", "Bearer realm=y"]).unwrap();
    assert!(matches!(token, Challenge::Bearer(_)));
    assert_eq!(strongest(&["Basic realm=\"x\""]), Ok(Challenge::Basic));
    assert_eq!(strongest(&["Digest nonce=x", "basic"]), Ok(Challenge::Basic));
    for (values, named) in [
        (&[][..], "it says none"),
        (&["é"], "it says none"),
        (&["realm=x"], "it says none"),
        (&["Digest a=b", "Negotiate x"], "Digest, Negotiate"),
    ] {
        let values: Vec<_> =
            values.iter().map(|v| http::HeaderValue::from_bytes(v.as_bytes()).unwrap()).collect();
        let headers: HeaderMap =
            values.into_iter().map(|value| (WWW_AUTHENTICATE, value)).collect();
        assert_eq!(Challenge::strongest(&headers), Err(ChallengeError::Unknown(named.to_owned())));
    }
}

#[test]
fn hostile_lengths_are_bounded() {
    let long = format!("Bearer realm=\"{}\"", "x".repeat(MAX_HEADER));
    assert_eq!(strongest(&[&long]), Err(ChallengeError::TooLong(long.len())));
    let crowd = "a, ".repeat(1000);
    assert!(strongest(&[crowd.as_str(); 20]).unwrap_err().to_string().len() < 500);
    let many: String = (0..500).map(|n| format!("p{n}=v, ")).collect();
    assert_eq!(bearer(&format!("Bearer {many}realm=r")).realm, "");
    let scopes = "s ".repeat(1000);
    assert_eq!(bearer(&format!("Bearer scope=\"{scopes}\"")).scopes.len(), MAX_PARAMETERS);
    let error =
        bearer(&format!("Bearer error=\"{}\"", "e\\\u{7f}".repeat(100).replace('\u{7f}', "x")));
    assert!(error.error.unwrap().chars().count() <= MAX_ERROR + 1);
}

#[test]
fn requests_for_a_token() {
    let anonymous = requests(HUB, None).unwrap();
    let url = "https://auth.docker.io/token?service=registry.docker.io\
        &scope=repository%3Aa%2Fb%3Apull&scope=repository%3Alibrary%2Fbusybox%3Apull";
    let plain = TokenRequest { url: url.to_owned(), authorization: None, form: None };
    assert_eq!(anonymous, [plain]);
    let scope = "scope=repository%3Aa%2Fb%3Apull+repository%3Alibrary%2Fbusybox%3Apull";
    let head = format!("{scope}&service=registry.docker.io&client_id=cuddy");
    let user = requests(HUB, Some(&password())).unwrap();
    assert_eq!((user.len(), user[0].url.as_str()), (2, url));
    assert_eq!(user[0].authorization.as_ref().unwrap().expose(), "Basic dXMgZXI6cCZ3");
    assert_eq!(user[1].url, "https://auth.docker.io/token");
    let form = format!("{head}&grant_type=password&username=us+er&password=p%26w");
    assert_eq!(user[1].form.as_ref().unwrap().expose(), form);
    let identity = Credentials::IdentityToken(Secret::new("id"));
    let exchange = requests(HUB, Some(&identity)).unwrap();
    let form = format!("{head}&grant_type=refresh_token&refresh_token=id");
    assert_eq!(exchange[0].form.as_ref().unwrap().expose(), form);
    assert_eq!((exchange.len(), &exchange[0].authorization), (1, &None));
    let queried = requests("Bearer realm=\"https://h/t?a=b#f\"", None).unwrap();
    assert_eq!(queried[0].url, "https://h/t?a=b&scope=repository%3Aa%2Fb%3Apull");
    assert!(!format!("{user:?} {exchange:?}").contains("p%26w"));
    assert!([400, 401, 404, 405].into_iter().all(tries_next) && !tries_next(403));
    let reference: Reference = "host:5000/a/b:t".parse().unwrap();
    assert_eq!(pull_scope(&reference), "repository:a/b:pull");
}

#[test]
fn servers_of_tokens_that_can_not_be_asked() {
    for realm in ["", "/token", "token", "ftp://h/", "https://", "https://u:p@h/", "https://h\\@i/"]
    {
        let error = requests(&format!("Bearer realm=\"{}\"", realm.replace('\\', "\\\\")), None);
        assert!(matches!(error, Err(ChallengeError::Realm(_))), "{realm}: {error:?}");
    }
    let long = format!("Bearer realm=\"https://h/{}\"", "x".repeat(3000));
    assert!(matches!(requests(&long, None), Err(ChallengeError::Realm(_))));
    // What came under TLS doesn't leave in the clear, nor does a token come in it.
    let clear = "Bearer realm=\"http://h/t?secret=x\"";
    for credentials in [None, Some(&password())] {
        let error = requests(clear, credentials).unwrap_err();
        assert_eq!(error, ChallengeError::Clear("http://h/t?…".to_owned()));
    }
    let challenge = strongest(&[clear]).unwrap();
    assert!(challenge.reply(Transport::Http, "s", Some(&password())).is_ok());
}

#[test]
fn a_password_is_sent_where_it_is_asked_for() {
    let reply = |challenge: &str, credentials: Option<&Credentials>| {
        strongest(&[challenge]).unwrap().reply(Transport::Https, "s", credentials)
    };
    let header = |text: &str| Ok(Reply::Authorization(Secret::new(text)));
    assert_eq!(reply("Basic realm=x", Some(&password())), header("Basic dXMgZXI6cCZ3"));
    let token = Credentials::RegistryToken(Secret::new("t"));
    assert_eq!(reply("Basic realm=x", Some(&token)), header("Bearer t"));
    assert_eq!(reply(HUB, Some(&token)), header("Bearer t"));
    let identity = Credentials::IdentityToken(Secret::new("id"));
    for (credentials, problem) in
        [(None, "there are none"), (Some(&identity), "identity token only")]
    {
        let error = reply("Basic realm=x", credentials).unwrap_err().to_string();
        assert!(error.ends_with(problem), "{error}");
    }
}

#[test]
fn answers_with_a_token() {
    let parse = |text: &str| Token::parse(text.as_bytes());
    let day = Duration::from_hours(24);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (text, header, seconds) in [
        (r#"{"token": "t"}"#, "Bearer t", 60),
        (r#"{"access_token": "a", "token": "t", "expires_in": 300}"#, "Bearer a", 300),
        (r#"{"access_token": "", "token": "t", "expires_in": 5}"#, "Bearer t", 60),
        (r#"{"token": "t", "expires_in": -1, "refresh_token": "r"}"#, "Bearer t", 60),
        (r#"{"token": "t", "expires_in": 1e300}"#, "Bearer t", day.as_secs()),
        (r#"{"token": "t", "expires_in": 99999999999999999999}"#, "Bearer t", day.as_secs()),
        (
            r#"{"token": "t", "expires_in": 300, "issued_at": "1970-01-12T13:45:00Z"}"#,
            "Bearer t",
            200,
        ),
        (
            r#"{"token": "t", "expires_in": 300, "issued_at": "1970-01-12T14:45:00+01:00"}"#,
            "Bearer t",
            200,
        ),
        (
            r#"{"token": "t", "expires_in": 300, "issued_at": "1970-01-12T13:45:00.5Z"}"#,
            "Bearer t",
            200,
        ),
        (
            r#"{"token": "t", "expires_in": 300, "issued_at": "1980-01-01T00:00:00Z"}"#,
            "Bearer t",
            300,
        ),
        (
            r#"{"token": "t", "expires_in": 300, "issued_at": "0001-01-01T00:00:00Z"}"#,
            "Bearer t",
            60,
        ),
        (r#"{"token": "t", "expires_in": 300, "issued_at": "yesterday"}"#, "Bearer t", 300),
    ] {
        let token = parse(text).unwrap();
        assert_eq!(token.authorization().expose(), header, "{text}");
        assert_eq!(token.good_for(now).as_secs(), seconds, "{text}");
        assert!(!format!("{token:?}").contains("\"t\""));
    }
    let secret = r#"{"token": "hunter2\n"}"#;
    assert_eq!(parse(secret), Err(TokenError::Characters));
    for text in ["{}", r#"{"token": ""}"#, r#"{"token": null}"#] {
        assert_eq!(parse(text), Err(TokenError::Missing), "{text}");
    }
    for text in
        ["", "[]", r#"{"token": 5}"#, r#""hunter2""#, r#"{"token": "t", "expires_in": "hunter2"}"#]
    {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, TokenError::Json(_)) && !error.to_string().contains("hunter2"));
    }
    let long = format!(r#"{{"token": "{}"}}"#, "t".repeat(1 << 20));
    assert!(matches!(parse(&long), Err(TokenError::Json(_))));
}

#[test]
fn damaged_challenges_and_answers_make_errors() {
    let mut noise = Noise::new(6);
    let answer = r#"{"token": "t", "expires_in": 300, "issued_at": "1970-01-12T13:45:00Z"}"#;
    let (mut met, mut read) = (0, 0);
    for round in 0..20_000 {
        let header = match round % 2 {
            0 => noise.damaged(HUB),
            _ => noise.text("Bearer realm=\"https://a\\, ", 60).into_bytes(),
        };
        if let Ok(value) = http::HeaderValue::from_bytes(&header) {
            let headers: HeaderMap = [(WWW_AUTHENTICATE, value)].into_iter().collect();
            let reply = Challenge::strongest(&headers)
                .and_then(|challenge| challenge.reply(Transport::Https, "s", None));
            met += usize::from(reply.is_ok());
            if let Err(error) = reply {
                assert!(error.to_string().len() < 2000, "{error}");
            }
        }
        if let Ok(token) = Token::parse(&noise.damaged(answer)) {
            read += 1;
            let lifetime = token.good_for(SystemTime::now());
            assert!((MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime), "{lifetime:?}");
        }
    }
    assert!(met > 1000 && read > 1000, "{met} challenges met, {read} tokens read");
}
