//! What is asked of a network: of each of its plugins in turn, with what the one before answered.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::cache::{Attachment, CacheError, Turn};
use super::list::{ListError, NetworkList, Plugin, Version};
use super::plugin::{Call, PluginError, Programs};
use super::{request, result};

/// Why a network did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One of its plugins.
    #[error("plugin {plugin} failed ({command}): {source}")]
    Plugin {
        /// Which.
        plugin: String,
        /// `add`, `delete`, `check`, `status`, `gc`.
        command: String,
        /// Why.
        source: PluginError,
    },
    /// Its configuration.
    #[error("network configuration: {0}")]
    List(#[from] ListError),
    /// What is remembered of it.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

type Result<T> = std::result::Result<T, ChainError>;

/// A plugin's answer that is not worth telling: the thing that is to go is gone already.
fn is_gone(error: &PluginError, netns: &str) -> bool {
    let text = error.to_string();
    netns.is_empty() && text.contains("no such file or directory")
}

impl Programs {
    async fn ask(
        &self,
        plugin: &Plugin,
        call: &Call<'_>,
        input: &Value,
        stdin: &mut std::fs::File,
    ) -> Result<Option<Value>> {
        let done = self.run(&plugin.kind, call, input, stdin).await;
        done.map_err(|source| plugin_error(plugin, call.command, source))
    }

    /// Connects a sandbox and gives the last plugin's result.
    pub async fn add(&self, attachment: &Attachment, turn: &mut Turn) -> Result<Value> {
        let list = attachment.list()?;
        let call = call("ADD", attachment);
        let mut previous = None;
        for plugin in &list.plugins {
            let input = input(&list, plugin, attachment, previous.take());
            let answer = self.ask(plugin, &call, &input, turn.stdin()).await?;
            let failed = |why: String| plugin_error(plugin, "ADD", PluginError::Result(why));
            let answer = answer.ok_or_else(|| failed("there is none".into()))?;
            previous = Some(result::in_version(answer, list.version).map_err(failed)?);
        }
        previous.ok_or_else(|| ListError::new("no plugins in list").into())
    }

    /// Undoes [`Self::add`], whether it succeeded or not.
    pub async fn delete(&self, attachment: &Attachment, turn: &mut Turn) -> Result<()> {
        let list = attachment.list()?;
        let mut call = call("DEL", attachment);
        if !Path::new(call.netns).exists() {
            call.netns = "";
        }
        let previous = attachment.result.clone().filter(|_| list.version >= Version::WITH_CHECK);
        for plugin in list.plugins.iter().rev() {
            let input = input(&list, plugin, attachment, previous.clone());
            match self.run(&plugin.kind, &call, &input, turn.stdin()).await {
                Err(error) if is_gone(&error, call.netns) => {
                    tracing::debug!(%error, "a plugin found nothing to undo");
                }
                done => drop(done.map_err(|source| plugin_error(plugin, "DEL", source))?),
            }
        }
        Ok(())
    }

    /// Asks whether a sandbox is connected as it was.
    pub async fn check(&self, attachment: &Attachment, turn: &mut Turn) -> Result<()> {
        let list = attachment.list()?;
        let Some(previous) = &attachment.result else { return Ok(()) };
        if list.disable_check || list.version < Version::WITH_CHECK {
            return Ok(());
        }
        let call = call("CHECK", attachment);
        for plugin in &list.plugins {
            let input = input(&list, plugin, attachment, Some(previous.clone()));
            self.ask(plugin, &call, &input, turn.stdin()).await?;
        }
        Ok(())
    }

    /// Asks whether a network can connect pods. Only plugins since 1.1.0 can say.
    pub async fn status(&self, list: &NetworkList) -> Result<()> {
        if list.version < Version::WITH_STATUS {
            return Ok(());
        }
        self.ask_all(list, "STATUS", &Map::new()).await
    }

    /// Lets a network clear up whatever belongs to none of these sandboxes and interfaces.
    pub async fn collect(&self, list: &NetworkList, valid: &[(String, String)]) -> Result<()> {
        if list.disable_gc || list.version < Version::WITH_STATUS {
            return Ok(());
        }
        let valid: Vec<Value> = valid
            .iter()
            .map(|(container, interface)| json!({"containerID": container, "ifname": interface}))
            .collect();
        let mut extra = Map::new();
        // The specification said the second in one place; libcni gives both.
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            extra.insert(key.into(), valid.clone().into());
        }
        self.ask_all(list, "GC", &extra).await
    }

    async fn ask_all(
        &self,
        list: &NetworkList,
        command: &'static str,
        extra: &Map<String, Value>,
    ) -> Result<()> {
        let call = Call { command, ..Call::default() };
        let mut all = Ok(());
        for plugin in &list.plugins {
            let mut input = list.input(plugin, []);
            if let Some(input) = input.as_object_mut() {
                input.extend(extra.clone());
            }
            let mut stdin = tempfile::tempfile().map_err(|source| {
                plugin_error(plugin, command, PluginError::io("making a file for its configuration")(source))
            })?;
            let done = self.ask(plugin, &call, &input, &mut stdin).await;
            // One that cannot clear up keeps no other from it.
            all = all.and(done.map(drop));
        }
        all
    }
}

fn plugin_error(plugin: &Plugin, command: &str, source: PluginError) -> ChainError {
    let command = if command == "DEL" { "delete".to_owned() } else { command.to_lowercase() };
    ChainError::Plugin { plugin: plugin.described(), command, source }
}

fn call<'a>(command: &'static str, attachment: &'a Attachment) -> Call<'a> {
    Call {
        command,
        container: &attachment.container,
        netns: &attachment.netns,
        interface: &attachment.interface,
        args: request::joined(&attachment.args),
    }
}

/// A plugin's configuration with what was found out at run time.
fn input(list: &NetworkList, plugin: &Plugin, attachment: &Attachment, previous: Option<Value>) -> Value {
    let wanted = attachment.capabilities.iter().filter(|(name, _)| plugin.capabilities.contains(*name));
    let wanted: Map<String, Value> = wanted.map(|(name, value)| (name.clone(), value.clone())).collect();
    let wanted = (!wanted.is_empty()).then_some(("runtimeConfig", Value::Object(wanted)));
    list.input(plugin, wanted.into_iter().chain(previous.map(|previous| ("prevResult", previous))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_told_what_it_asked_for_only() {
        let bytes = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "a"}, {"type": "b", "capabilities": {"dns": true, "absent": true}}]});
        let list = NetworkList::parse(bytes.to_string().as_bytes()).unwrap();
        let given = json!({"dns": {"servers": []}, "bandwidth": {}});
        let given = given.as_object().unwrap().clone();
        let attachment = Attachment::new(&list, "c", String::new(), "eth0", Vec::new(), given);
        let [a, b] = list.plugins.as_slice() else { panic!("two plugins") };
        assert_eq!(
            input(&list, a, &attachment, None),
            json!({"type": "a", "name": "n", "cniVersion": "1.0.0"})
        );
        assert_eq!(
            input(&list, b, &attachment, Some(json!({"ips": []}))),
            json!({"type": "b", "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []},
                "capabilities": {"dns": true, "absent": true}, "runtimeConfig": {"dns": {"servers": []}}})
        );
    }
}
