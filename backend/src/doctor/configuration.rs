//! The settings in effect. A configuration with an error never gets here: it is reported when it is
//! read.

use super::Finding;
use crate::{
    config::{Origin, Setting},
    units::count,
};

pub(super) fn check(settings: &[Setting]) -> Finding {
    let from = |is_such: fn(&Origin) -> bool| settings.iter().filter(|setting| is_such(&setting.origin)).count();
    let found = format!(
        "{} are valid: {} from the environment, {} from files, {} with their defaults",
        count(settings.len() as u64, "setting"),
        from(|origin| *origin == Origin::Environment),
        from(|origin| matches!(origin, Origin::File(_))),
        from(|origin| *origin == Origin::Default),
    );
    Finding::pass(found).with_details(settings.iter().map(Setting::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn every_setting_is_a_detail_with_its_origin() {
        let setting = |key: &str, value: &str, origin| {
            let (key, value) = (key.to_owned(), value.to_owned());
            Setting { key, value, origin, raw: Secret::default() }
        };
        let settings = [
            setting("redis.partitions", "16", Origin::Default),
            setting("redis.url", "[redacted]", Origin::Environment),
            setting("ingest.proof", "[redacted]", Origin::File("/run/edge/proof".to_owned())),
        ];
        let finding = check(&settings);
        let found = "3 settings are valid: 1 from the environment, 1 from files, 1 with their defaults";
        assert_eq!(finding.found, found);
        assert_eq!(finding.details[0], "redis.partitions = 16 (default)");
        assert_eq!(finding.details[2], "ingest.proof = [redacted] (/run/edge/proof)");
    }
}
