use std::io::Write as _;

use super::*;

#[test]
fn the_command_line_is_valid() {
    Arguments::command().debug_assert();
}

#[test]
fn shells_complete_the_commands() {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "backend", &mut script);
        let script = String::from_utf8(script).unwrap();
        assert!(script.contains("quarantine") && script.contains("dry-run"), "{shell}");
    }
}

#[test]
fn an_invalid_redis_url_is_named_but_not_shown() {
    for (url, is_valid) in [
        ("redis://user:hunter2@host:6379/1", true),
        ("unix:///run/redis.sock", true),
        ("localhost", false),
        ("http://user:hunter2@host", false),
    ] {
        let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        writeln!(file, "[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"").unwrap();
        writeln!(file, "[redis]\nurl = \"{url}\"").unwrap();
        let loaded = load(Some(file.path()));
        assert_eq!(loaded.is_ok(), is_valid, "{url}");
        if let Err(error) = loaded {
            let error = error.to_string();
            assert!(error.contains("`redis.url` is not a URL") && !error.contains("hunter2"), "{error}");
        }
    }
}
