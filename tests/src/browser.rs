//! A real browser: Chromium, driven over the WebDriver protocol.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, free_port},
    tools,
};

/// A window of Chromium. It is closed when dropped.
pub struct Browser {
    session: String,
    client: Client,
    driver: Process,
    _folder: TempDir,
}

/// How long the driver may take to become ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// What makes Chromium run without a screen, and talk to nobody but the pages it is told to open.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];
/// The key Enter, in the protocol.
const ENTER: &str = "\u{e007}";
/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    /// Opens a window in which pages are this wide. `script` says whether pages may run scripts.
    ///
    /// # Errors
    /// If Chromium is missing or does not start.
    pub async fn open(width: u32, script: Script) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = Command::new(tools::chromedriver()?);
        command.arg(format!("--port={port}"));
        let mut driver = Process::start("chromedriver", &mut command, &folder.path().join("chromedriver.log"))?;
        let url = format!("http://127.0.0.1:{port}");
        driver.wait_until(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        let client = Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let mut arguments: Vec<_> = ARGUMENTS.iter().map(|argument| (*argument).to_owned()).collect();
        arguments.push(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let scripts = if script == Script::On { 1 } else { 2 };
        let preferences = json!({ "profile.managed_default_content_settings.javascript": scripts });
        let options = json!({ "args": arguments, "prefs": preferences });
        let always = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let wanted = json!({ "capabilities": { "alwaysMatch": always } });
        let answer = client.post(format!("{url}/session")).json(&wanted).send().await?.text().await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let id = answer["value"]["sessionId"].as_str().with_context(|| format!("no window: {answer}"))?;
        let browser = Self { session: format!("{url}/session/{id}"), client, driver, _folder: folder };
        // A window cannot be made as narrow as a telephone.
        let screen = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": screen });
        browser.call(Method::POST, "goog/cdp/execute", command).await?;
        Ok(browser)
    }

    /// Opens a page.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub async fn go_to(&self, url: &str) -> Result<()> {
        self.call(Method::POST, "url", json!({ "url": url })).await.map(drop)
    }

    /// The visible text of the first element that a CSS selector selects; `None` if there is none.
    ///
    /// # Errors
    /// If the browser does not answer.
    pub async fn text(&self, selector: &str) -> Result<Option<String>> {
        let Ok(element) = self.element(selector).await else { return Ok(None) };
        // A live page may have replaced the element in the meantime.
        let text = self.call(Method::GET, &format!("element/{element}/text"), Value::Null).await;
        Ok(text.ok().and_then(|text| text.as_str().map(str::to_owned)))
    }

    /// Moves the focus to the element that a CSS selector selects and presses Enter, as somebody
    /// without a mouse does.
    ///
    /// # Errors
    /// If there is no such element, or it cannot have the focus.
    pub async fn press_enter(&self, selector: &str) -> Result<()> {
        let focused = format!(
            "document.querySelector('{selector}') && (document.querySelector('{selector}').focus(), \
                               document.activeElement.matches('{selector}'))"
        );
        ensure!(self.evaluate(&focused).await? == true, "{selector} cannot have the focus");
        let press = json!([{ "type": "keyDown", "value": ENTER }, { "type": "keyUp", "value": ENTER }]);
        let keys = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": press }] });
        self.call(Method::POST, "actions", keys).await.map(drop)
    }

    /// The messages on the browser's console: errors of scripts, and what the page's security policy
    /// has blocked.
    ///
    /// # Errors
    /// If the browser does not answer.
    pub async fn errors(&self) -> Result<Vec<String>> {
        let log = self.call(Method::POST, "se/log", json!({ "type": "browser" })).await?;
        let entries = log.as_array().context("no list of messages")?;
        Ok(entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// The value of a JavaScript expression. Works even if pages may run no scripts.
    ///
    /// # Errors
    /// If it fails.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let script = json!({ "script": format!("return {expression}"), "args": [] });
        self.call(Method::POST, "execute/sync", script).await
    }

    async fn element(&self, selector: &str) -> Result<String> {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.call(Method::POST, "element", query).await?;
        Ok(found[ELEMENT].as_str().with_context(|| format!("no element {selector}"))?.to_owned())
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let mut request = self.client.request(method, format!("{}/{path}", self.session));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let mut answer: Value = serde_json::from_str(&answer.text().await?)?;
        ensure!(status.is_success(), "the browser cannot do {path}: {}", answer["value"]["message"]);
        Ok(answer["value"].take())
    }
}

/// Whether pages may run scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// They may.
    On,
    /// They may not.
    Off,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium. If that fails, the driver does so when it is told to stop.
        let delete = ureq::delete(&self.session).config().timeout_global(Some(PATIENCE)).proxy(None).build();
        _ = delete.call();
        _ = self.driver.stop(PATIENCE);
    }
}
