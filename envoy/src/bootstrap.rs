//! Renders Envoy's bootstrap for another place than the one it was written for.

use std::collections::BTreeSet;

/// The bootstrap as it ships.
pub const SHIPPED: &str = include_str!("../bootstrap.yaml");

/// What is wrong with a replacement.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No line of the bootstrap is marked with that name.
    #[error("the bootstrap has no value to set that is named `{0}`; its names are those after `# set:`")]
    UnknownName(String),
    /// No line of the bootstrap belongs to an option of that name.
    #[error("the bootstrap has no option `{0}`; its options are named in its first lines")]
    UnknownOption(String),
    /// An option is on, and another one without which Envoy cannot read the file is not.
    #[error("the option `{option}` needs the option `{other}`: enable both")]
    Needs {
        /// The option that is on.
        option: &'static str,
        /// The option that it needs.
        other: &'static str,
    },
    /// The value would change the file's structure.
    #[error("the value of `{0}` must be 1 to 4096 of A-Z a-z 0-9 . _ : / -")]
    BadValue(String),
}

/// Options whose lines stand within the lines of another option.
const NEEDS: &[(&str, &str)] = &[("mtls", "tls")];

/// A bootstrap that is being adapted.
#[derive(Debug, Clone)]
pub struct Bootstrap(String);

impl Bootstrap {
    /// The bootstrap as it ships.
    pub fn shipped() -> Self {
        Self(SHIPPED.to_owned())
    }

    /// The names of all options.
    pub fn options() -> BTreeSet<&'static str> {
        SHIPPED.lines().filter_map(option).collect()
    }

    /// Replaces the value on every line marked `# set: NAME`; in an access log's format, the maximum length.
    ///
    /// # Errors
    /// Where no line is marked so, or where the value is more than a plain YAML scalar.
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

    /// Switches an option on: takes the mark away from every line that begins with `#NAME#`.
    ///
    /// # Errors
    /// Where no line does.
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

    /// The file's text, whether or not Envoy can read it with the options that are on.
    pub fn as_yaml(&self) -> &str {
        &self.0
    }

    /// The file's text.
    ///
    /// # Errors
    /// If an option is on and another one that it needs is not.
    pub fn render(self) -> Result<String, BootstrapError> {
        let off: BTreeSet<_> = self.0.lines().filter_map(option).collect();
        match NEEDS.iter().find(|(option, other)| !off.contains(option) && off.contains(other)) {
            Some(&(option, other)) => Err(BootstrapError::Needs { option, other }),
            None => Ok(self.0),
        }
    }
}

/// The option to which a line belongs, if it is off.
fn option(line: &str) -> Option<&str> {
    let (name, _) = line.trim_start().strip_prefix('#')?.split_once("# ")?;
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_value_is_replaced_wherever_it_stands() {
        let rendered = Bootstrap::shipped().set("admin_port", 1234).unwrap();
        assert_eq!(rendered.as_yaml().matches("port_value: 1234 } # set: admin_port").count(), 2);
        assert!(!rendered.as_yaml().contains("9901"));
        assert_eq!(rendered.as_yaml().lines().count(), SHIPPED.lines().count());
    }

    #[test]
    fn an_option_is_switched_on_with_its_values() {
        let rendered =
            Bootstrap::shipped().enable("ip_allow_list").unwrap().set("allowed_network", "10.0.0.0").unwrap();
        assert!(rendered.as_yaml().contains("\n          - name: envoy.filters.http.rbac\n"));
        assert!(rendered.as_yaml().contains("address_prefix: 10.0.0.0 # set: allowed_network"));
        assert!(!rendered.as_yaml().contains("#ip_allow_list#"));
        let unknown = Bootstrap::shipped().enable("ip").map(drop);
        assert_eq!(unknown, Err(BootstrapError::UnknownOption("ip".into())));
    }

    #[test]
    fn the_options_are_those_that_the_first_lines_name_and_some_need_another() {
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
    fn unknown_names_and_values_that_are_yaml_are_refused() {
        let set = |name: &str, value: &str| Bootstrap::shipped().set(name, value).map(drop);
        assert_eq!(set("edge", "1"), Err(BootstrapError::UnknownName("edge".into())));
        for value in ["", "a b", "1 }", "x\ny", "#"] {
            assert_eq!(set("edge_port", value), Err(BootstrapError::BadValue("edge_port".into())), "{value:?}");
        }
    }
}
