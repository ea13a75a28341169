//! Renders Envoy's bootstrap with other values and options.

use std::collections::BTreeSet;

/// The shipped bootstrap.
pub const SHIPPED: &str = include_str!("../bootstrap.yaml");

/// Why the bootstrap cannot be rendered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No value of the bootstrap has that name.
    #[error("the bootstrap has no value named `{0}`. See the comments `# set: NAME` in envoy/bootstrap.yaml")]
    UnknownName(String),
    /// The bootstrap has no option with that name.
    #[error("the bootstrap has no option `{0}`. Its first lines list the options")]
    UnknownOption(String),
    /// An option is on, but an option that it requires is off.
    #[error("the option `{option}` requires the option `{other}`. Enable both")]
    Needs {
        /// The option that is on.
        option: &'static str,
        /// The option that it requires.
        other: &'static str,
    },
    /// The value would change the file's structure.
    #[error("the value of `{0}` must be 1 to 4096 characters of A-Z a-z 0-9 . _ : / -")]
    BadValue(String),
}

/// Options with the option that each requires, because its lines are within that option's lines.
const NEEDS: &[(&str, &str)] = &[("mtls", "tls")];

/// A bootstrap to adapt.
#[derive(Debug, Clone)]
pub struct Bootstrap(String);

impl From<String> for Bootstrap {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Bootstrap {
    /// Returns the shipped bootstrap.
    pub fn shipped() -> Self {
        Self(SHIPPED.to_owned())
    }

    /// Returns the names of all options.
    pub fn options() -> BTreeSet<&'static str> {
        SHIPPED.lines().filter_map(option).collect()
    }

    /// Replaces the value on every line marked `# set: NAME`; on a line with an access-log format,
    /// the maximum length.
    ///
    /// # Errors
    /// If no line has that mark, or the value is not a plain YAML scalar.
    pub fn set(self, name: &str, value: impl ToString) -> Result<Self, BootstrapError> {
        let value = value.to_string();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        if !(1..=4096).contains(&value.len()) || !value.bytes().all(is_plain) {
            return Err(BootstrapError::BadValue(name.to_owned()));
        }
        let mark = format!(" # set: {name}");
        let mut found = false;
        let lines = self.0.lines().map(|line| match line.strip_suffix(&mark) {
            Some(setting) => {
                found = true;
                let (key, old) = setting.rsplit_once(": ").unwrap_or((setting, ""));
                let closing = if old.ends_with(" }") { " }" } else { "" };
                match old.strip_suffix("%\"").and_then(|format| format.rsplit_once(':')) {
                    Some((format, _)) => format!("{key}: {format}:{value}%\"{mark}\n"),
                    None => format!("{key}: {value}{closing}{mark}\n"),
                }
            }
            None => format!("{line}\n"),
        });
        let rendered = lines.collect();
        if found { Ok(Self(rendered)) } else { Err(BootstrapError::UnknownName(name.to_owned())) }
    }

    /// Enables an option: removes the mark from every line that begins with `#NAME#`.
    ///
    /// # Errors
    /// If no line has that mark.
    pub fn enable(self, option: &str) -> Result<Self, BootstrapError> {
        let mark = format!("#{option}# ");
        let is_marked = |line: &str| line.trim_start().starts_with(&mark);
        if !self.0.lines().any(is_marked) {
            return Err(BootstrapError::UnknownOption(option.to_owned()));
        }
        let lines =
            self.0.lines().map(|line| if is_marked(line) { line.replacen(&mark, "", 1) } else { line.to_owned() });
        Ok(Self(lines.map(|line| line + "\n").collect()))
    }

    /// Returns the file's text without checking the options.
    pub fn as_yaml(&self) -> &str {
        &self.0
    }

    /// Returns the file's text.
    ///
    /// # Errors
    /// If an option is on, but an option that it requires is off.
    pub fn render(self) -> Result<String, BootstrapError> {
        let off: BTreeSet<_> = self.0.lines().filter_map(option).collect();
        match NEEDS.iter().find(|(option, other)| !off.contains(option) && off.contains(other)) {
            Some(&(option, other)) => Err(BootstrapError::Needs { option, other }),
            None => Ok(self.0),
        }
    }
}

/// Returns the option that a line belongs to, if that option is off.
fn option(line: &str) -> Option<&str> {
    let (name, _) = line.trim_start().strip_prefix('#')?.split_once("# ")?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_value_is_replaced_everywhere() {
        let rendered = Bootstrap::shipped().set("admin_port", 1234).unwrap();
        assert_eq!(rendered.as_yaml().matches("port_value: 1234 } # set: admin_port").count(), 2);
        assert!(!rendered.as_yaml().contains("9901"));
        assert_eq!(rendered.as_yaml().lines().count(), SHIPPED.lines().count());
    }

    #[test]
    fn an_option_is_enabled_with_its_values() {
        let rendered =
            Bootstrap::shipped().enable("ip_allow_list").unwrap().set("allowed_network", "10.0.0.0").unwrap();
        assert!(rendered.as_yaml().contains("\n          - name: envoy.filters.http.rbac\n"));
        assert!(rendered.as_yaml().contains("address_prefix: 10.0.0.0 # set: allowed_network"));
        assert!(!rendered.as_yaml().contains("#ip_allow_list#"));
        let unknown = Bootstrap::shipped().enable("ip").map(drop);
        assert_eq!(unknown, Err(BootstrapError::UnknownOption("ip".into())));
    }

    #[test]
    fn the_first_lines_list_every_option_and_mtls_requires_tls() {
        let head = SHIPPED.split_once("\nnode:").unwrap().0;
        let options = Bootstrap::options();
        assert!(
            options
                .iter()
                .all(|option| head.contains(&format!("#   {option}")) || head.contains(&format!(", {option}"))),
            "{options:?}"
        );
        let mtls = Bootstrap::shipped().enable("mtls").unwrap();
        assert_eq!(mtls.clone().render(), Err(BootstrapError::Needs { option: "mtls", other: "tls" }));
        assert!(mtls.enable("tls").unwrap().render().is_ok());
        assert_eq!(Bootstrap::shipped().render().as_deref(), Ok(SHIPPED));
    }

    #[test]
    fn a_maximum_length_is_replaced_within_its_format() {
        let rendered = Bootstrap::shipped().set("logged_path_bytes", 8).unwrap();
        assert!(rendered.as_yaml().contains("path: \"%PATH(NQ):8%\" # set: logged_path_bytes\n"));
    }

    #[test]
    fn unknown_names_and_values_that_are_not_plain_scalars_are_rejected() {
        let set = |name: &str, value: &str| Bootstrap::shipped().set(name, value).map(drop);
        assert_eq!(set("edge", "1"), Err(BootstrapError::UnknownName("edge".into())));
        for value in ["", "a b", "1 }", "x\ny", "#"] {
            assert_eq!(set("edge_port", value), Err(BootstrapError::BadValue("edge_port".into())), "{value:?}");
        }
    }
}
