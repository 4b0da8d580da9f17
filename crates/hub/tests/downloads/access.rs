//! Tokens, and what is not allowed.

use crate::fixture::{Fixture, REPO};
use automodel_hub::{HubError, HubOptions, Token, resolve_with};
use automodel_hub_test_server::{Fault, FaultKind};

const SECRET: &str = "hf_verysecret";

fn with_token(place: &Fixture, token: &str) -> HubOptions {
    HubOptions { token: Some(Token::new(token, "a test").unwrap()), ..place.options() }
}

#[test]
fn a_token_opens_a_private_repo_and_goes_to_its_server_alone() {
    let place = Fixture::new();
    place.server.change(|hub| {
        hub.token = Some(SECRET.to_owned());
        hub.repos.get_mut(REPO).unwrap().is_private = true;
    });
    place.check_whole(&place.load_with(&with_token(&place, SECRET)).unwrap());
    let log = place.server.log();
    assert!(log.iter().all(|request| request.has_token != request.to_storage), "{log:?}");
    assert!(log.iter().any(|request| request.to_storage));
    let options = with_token(&place, SECRET);
    assert!(!format!("{options:?}").contains(SECRET) && !place.said(SECRET));
}

#[test]
fn refusals_say_what_to_do_and_are_not_repeated() {
    let private = Fixture::new();
    private.server.change(|hub| {
        hub.token = Some(SECRET.to_owned());
        hub.repos.get_mut(REPO).unwrap().is_private = true;
    });
    let error = private.load().unwrap_err();
    assert!(matches!(&error, HubError::UnknownRepo { with_token: false, .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    assert_eq!(private.server.log().iter().filter(|request| request.target.contains("revision")).count(), 1);

    let error = private.load_with(&with_token(&private, "hf_wrong")).unwrap_err();
    assert!(matches!(&error, HubError::RefusedToken { .. }), "{error}");
    assert!(error.to_string().contains("/settings/tokens") && !error.to_string().contains("hf_wrong"), "{error}");

    let gated = Fixture::new();
    gated.server.change(|hub| {
        hub.token = Some(SECRET.to_owned());
        hub.repos.get_mut(REPO).unwrap().is_gated = true;
    });
    for (options, advice) in [(gated.options(), "HF_TOKEN"), (with_token(&gated, SECRET), "no access yet")] {
        let error = gated.load_with(&options).unwrap_err();
        let HubError::Gated { page, .. } = &error else { panic!("{error}") };
        assert_eq!(page, &format!("{}/org/tiny", gated.server.url()));
        assert!(error.to_string().contains(advice), "{error}");
        gated.check_nothing_half_done();
    }

    let forbidden = Fixture::new();
    forbidden.fault(Fault::always("/storage/", FaultKind::Status(403, Vec::new())));
    let error = forbidden.load().unwrap_err();
    assert!(matches!(&error, HubError::Forbidden { url, .. } if !url.contains("signature")), "{error}");
    assert!(forbidden.server.log().iter().filter(|request| request.status == 403).count() <= 2);
}

#[test]
fn what_is_missing_is_answered_with_similar_names() {
    let place = Fixture::new();
    let error = resolve_with("org/tiney", &place.options(), &place.environment()).unwrap_err();
    assert!(matches!(&error, HubError::UnknownRepo { nearest, .. } if nearest == &["org/tiny"]), "{error}");

    place.server.change(|hub| {
        let repo = hub.repos.get_mut(REPO).unwrap();
        repo.branches.insert("v1.0".to_owned(), place.commit.clone());
    });
    let options = HubOptions { revision: Some("v1.O".to_owned()), ..place.options() };
    let error = place.load_with(&options).unwrap_err();
    assert!(
        matches!(&error, HubError::UnknownRevision { known, .. } if known[0] == "v1.0" && known.len() == 2),
        "{error}"
    );

    let options = HubOptions { subfolder: Some("small".to_owned()), ..place.options() };
    let error = place.load_with(&options).unwrap_err();
    assert!(matches!(&error, HubError::MissingRemoteFile { file, .. } if file == "small/config.json"), "{error}");

    let old = Fixture::of(vec![("config.json", b"{}".to_vec()), ("pytorch_model.bin", vec![0; 9])]);
    let error = old.load().unwrap_err();
    assert!(matches!(&error, HubError::NoSafetensors { found, .. } if found == &["pytorch_model.bin"]), "{error}");
}
