//! Carries out what was decided. Each job can be done again; what it comes to, the next look at the runtime shows.

use std::path::Path;

use base::failpoint;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};

use super::config;
use super::memory::CrashPause;
use super::memory::Job;
use super::plan::Action;
use super::spec::{PodExt, crash_key};
use super::{Handle, dns, pulling, resizing, resources, start, stopping};
use crate::Shared;
use crate::cgroups::Limits;
use crate::collect::logs::{self, links};
use crate::counts::table;
use crate::node::enforce;
use crate::statics;

/// The reason and the message of what went wrong.
pub type Failed = (String, String);

pub fn failed(reason: &str, message: impl Into<String>) -> Failed {
    (reason.to_owned(), message.into())
}

pub fn call(reason: &'static str) -> impl Fn(tonic::Status) -> Failed {
    move |status| failed(reason, status.message())
}

/// Does one thing.
pub async fn perform(shared: &Shared, handle: &Handle, pod: &Pod, action: &Action) -> Result<(), Failed> {
    let runtime = &shared.runtime;
    match action {
        Action::MountVolumes => mount(shared, handle, pod).await,
        Action::CreateSandbox { attempt } => {
            let id = sandbox(shared, pod, *attempt).await?;
            let mut memory = handle.memory.lock();
            memory.made.insert(id);
            memory.resize.group = Some(resources::pod_limits(pod));
            Ok(())
        }
        Action::StopSandbox { id } => runtime.stop_sandbox(id).await.map_err(call("FailedKillPod")),
        Action::RemoveSandbox { id } => runtime.remove_sandbox(id).await.map_err(call("FailedRemoveSandbox")),
        Action::EnsureImage { container } => pulling::image(shared, handle, pod, container).await,
        Action::Start { container, sandbox, restarts, crashed } => {
            let attempt = start::Attempt { container, sandbox, restarts: *restarts };
            let result = Box::pin(start::start(shared, handle, pod, &attempt)).await;
            // Mostly it is then that a user namespace turns out to be of no use.
            let is_first = || {
                let job = Job::Start(container.clone());
                *restarts == 0 && !handle.memory.lock().failures.contains_key(&job)
            };
            if result.is_err() && has_own_users(pod) && is_first() {
                shared.counts.count(&table::USER_PODS_ERRORS, &[]);
            }
            let mut memory = handle.memory.lock();
            memory.images.remove(container);
            if *crashed && let Some(key) = pod.container(container).map(|of| crash_key(&of)) {
                let (before, now) = (memory.pauses.get(&key).copied(), shared.config.clock.now());
                let pause = CrashPause::next(before, now, shared.config.configuration.fields.crash_pauses());
                memory.pauses.insert(key, pause);
            }
            result
        }
        Action::Kill { id, container, grace, why, .. } => {
            stopping::kill(shared, handle, pod, (id, container), *grace, why).await
        }
        Action::PreStop { id, container, grace, why } => {
            stopping::pre_stop(shared, handle, pod, (id, container), *grace, why).await;
            Ok(())
        }
        Action::RemoveContainer { id } => remove(shared, pod, id).await.map_err(call("FailedRemove")),
        Action::Resize { containers, sandbox } => {
            resizing::resize(shared, handle, pod, containers, sandbox).await
        }
        Action::Retire { logs } => {
            give_back(shared, pod, *logs).await?;
            let mut memory = handle.memory.lock();
            memory.retired = true;
            memory.stripped |= *logs;
            Ok(())
        }
        Action::Cleanup => {
            give_back(shared, pod, true).await?;
            handle.memory.lock().cleaned = true;
            Ok(())
        }
        Action::Delete => delete(shared, handle, pod).await,
        Action::TellBackOff { .. } => Ok(()),
    }
}

/// Removes a container that does not run. A kubelet before this one may have asked for its start, which is carried out
/// only now: then it stays, and the next look shows it.
async fn remove(shared: &Shared, pod: &Pod, id: &str) -> Result<(), tonic::Status> {
    match shared.runtime.container_status(id).await {
        Ok(status) if status.state == cri::v1::ContainerState::ContainerRunning as i32 => Ok(()),
        Ok(status) => {
            // A log that outlives its container would be nobody's until the pod goes.
            let name = status.metadata.as_ref().map(|metadata| metadata.name.as_str()).unwrap_or_default();
            let removed =
                links::remove(shared, pod, name, id).and_then(|()| match status.log_path.as_str() {
                    "" => Ok(()),
                    path => logs::forget(Path::new(path)),
                });
            removed.map_err(|error| tonic::Status::internal(format!("removing the log: {error}")))?;
            shared.runtime.remove_container(id).await
        }
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}

/// Tells of a back-off, once for each failure.
pub fn tell(shared: &Shared, handle: &Handle, pod: &Pod, action: &Action) {
    let Action::TellBackOff { container, failed_at } = action else { return };
    let mut memory = handle.memory.lock();
    memory.told.insert(container.clone(), *failed_at);
    let specified = pod.container(container);
    let unpulled = specified.as_deref().and_then(|specified| memory.unpulled(pod, specified));
    let image = unpulled.map(|(image, _)| image.to_owned());
    let key = specified.as_deref().map(crash_key);
    let crashed = key.is_some_and(|key| memory.pauses.contains_key(&key)) && image.is_none();
    drop(memory);
    let about = pod.reference(Some(container));
    if crashed {
        let message = format!("Back-off restarting failed container {container} in pod {}", pod.described());
        shared.recorder.warning(about, "BackOff", message);
    } else {
        let image = image.unwrap_or_default();
        shared.recorder.normal(about, "BackOff", format!("Back-off pulling image {image:?}"));
    }
}

async fn mount(shared: &Shared, handle: &Handle, pod: &Pod) -> Result<(), Failed> {
    let surroundings = start::surroundings(shared, handle, pod);
    let surroundings = surroundings.borrow();
    match shared.volumes.mount(pod, &surroundings).await {
        Ok(again) => {
            handle.memory.lock().mounted = Some(again);
            Ok(())
        }
        Err(error) => {
            let message =
                format!("MountVolume.SetUp failed for volume {:?} : {}", error.volume, error.source);
            shared.recorder.warning(pod.reference(None), "FailedMount", message.clone());
            Err(failed("FailedMount", message))
        }
    }
}

/// What the runtime is told of the sandbox.
pub fn sandbox_config(shared: &Shared, pod: &Pod, attempt: u32) -> Result<cri::v1::PodSandboxConfig, Failed> {
    let options = &shared.config;
    let directory = log_directory(shared, pod);
    let resolv_conf = resolv_conf(&options.configuration.fields.resolv_conf)?;
    let node = config::NodeConfig {
        cluster_dns: &options.cluster_dns,
        cluster_domain: &options.cluster_domain,
        resolv_conf: resolv_conf.as_deref(),
        ips: options.node_ips(),
        cgroup_parent: shared
            .cgroups
            .place(&resources::cgroup_parent(&options.cgroup_root, pod))
            .into_owned(),
        sysctls: shared.sysctls.of(pod),
        log_directory: directory.display().to_string(),
    };
    Ok(config::sandbox(pod, attempt, &node))
}

/// The node's resolver's configuration, which pods may inherit; `None` where they are to resolve no names.
fn resolv_conf(path: &str) -> Result<Option<String>, Failed> {
    if path.is_empty() {
        return Ok(None);
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // There is no name server to hand on, as on the node itself.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some(String::new())),
        Err(error) => Err(failed("FailedCreatePodSandBox", format!("reading {path}: {error}"))),
    }
}

/// Where a pod's logs are.
pub fn log_directory(shared: &Shared, pod: &Pod) -> std::path::PathBuf {
    shared.config.log_dir.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

fn has_own_users(pod: &Pod) -> bool {
    pod.spec().is_some_and(|spec| spec.host_users == Some(false))
}

/// Makes a sandbox: its id.
async fn sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Result<String, Failed> {
    let own_users = has_own_users(pod);
    let counts = &shared.counts;
    counts.count(&table::STARTED_PODS, &[]);
    if own_users {
        counts.count(&table::USER_PODS, &[]);
    }
    if attempt > 0 {
        let message = "Pod sandbox changed, it will be killed and re-created.";
        shared.recorder.normal(pod.reference(None), "SandboxChanged", message.to_owned());
    }
    let made = make_sandbox(shared, pod, attempt).await;
    if made.is_err() {
        counts.count(&table::STARTED_PODS_ERRORS, &[]);
        if own_users {
            counts.count(&table::USER_PODS_ERRORS, &[]);
        }
    }
    made
}

/// Makes the pod's cgroup, and says what it may use.
///
/// # Errors
/// With the path of the file that refused.
pub async fn make_group(shared: &Shared, pod: &Pod) -> std::io::Result<()> {
    enforce::restore(shared).await;
    let group = resources::cgroup_parent(&shared.config.cgroup_root, pod);
    let most = shared.config.configuration.fields.pod_pids_limit;
    let mut limits = Limits { pids: Some(most).filter(|most| *most > 0), ..shared.means.pod(pod) };
    if shared.exclusive.has_cpus(pod) {
        limits.cpu_quota = Some(-1);
    }
    shared.cgroups("create", shared.cgroups.make(&group, &limits)).await
}

async fn make_sandbox(shared: &Shared, pod: &Pod, attempt: u32) -> Result<String, Failed> {
    let mut config = sandbox_config(shared, pod, attempt)?;
    for omitted in config.dns_config.iter_mut().flat_map(dns::fit) {
        shared.recorder.warning(pod.reference(None), "DNSConfigForming", omitted);
    }
    let refuse = |message: String| {
        let message = format!("Failed to create pod sandbox: {message}");
        shared.recorder.warning(pod.reference(None), "FailedCreatePodSandBox", message.clone());
        failed("FailedCreatePodSandBox", message)
    };
    if let Some(why) = config::overlong_hostname(pod, &shared.config.cluster_domain) {
        return Err(refuse(why));
    }
    let class = pod.spec().and_then(|spec| spec.runtime_class_name.as_deref()).unwrap_or_default();
    let handler = start::handler(shared, class).await.map_err(&refuse)?;
    if let Err(error) = shared.claims.prepare(pod).await {
        let message = format!("prepare dynamic resources: {error}");
        let reason = "FailedPrepareDynamicResources";
        let told = format!("Failed to prepare dynamic resources: {message}");
        shared.recorder.warning(pod.reference(None), reason, told);
        return Err(failed(reason, message));
    }
    let users = start::users(shared, pod).map_err(&refuse)?;
    start::check_users(shared, users.as_ref(), &handler).map_err(&refuse)?;
    if let Some(options) = config::sandbox_namespaces(&mut config) {
        options.userns_options = users;
    }
    let logs = &config.log_directory;
    std::fs::create_dir_all(logs).map_err(|error| refuse(format!("making {logs}: {error}")))?;
    make_group(shared, pod).await.map_err(|error| refuse(error.to_string()))?;
    failpoint::hit("kubelet.sandbox.cgroup_made");
    let begun = shared.config.clock.monotonic();
    let made = shared.runtime.run_sandbox(config, &handler).await;
    let took = shared.config.clock.monotonic().saturating_sub(begun);
    shared.counts.took(&table::SANDBOX, &[&handler], took);
    made.map_err(|status| {
        shared.counts.count(&table::SANDBOX_ERRORS, &[&handler]);
        refuse(status.message().to_owned())
    })
}

/// Gives back what a pod that is over had of the node, its logs only if that is wanted.
async fn give_back(shared: &Shared, pod: &Pod, logs: bool) -> Result<(), Failed> {
    failpoint::hit("kubelet.cleanup.begun");
    let given_back = shared.claims.unprepare(pod.uid()).await;
    given_back.map_err(|error| failed("FailedCleanup", error.to_string()))?;
    let group = resources::cgroup_parent(&shared.config.cgroup_root, pod);
    let removed = shared.cgroups("destroy", shared.cgroups.remove(&group)).await;
    removed.map_err(|error| failed("FailedCleanup", error.to_string()))?;
    failpoint::hit("kubelet.cleanup.cgroup_removed");
    shared.volumes.remove_pod(pod.uid()).map_err(|error| failed("FailedCleanup", error.to_string()))?;
    failpoint::hit("kubelet.cleanup.volumes_removed");
    shared.users.release(pod.uid());
    if !logs {
        return Ok(());
    }
    links::remove_all(&shared.config.container_links, pod.uid(), &links::beginning(pod))
        .map_err(|error| failed("FailedCleanup", error.to_string()))?;
    match std::fs::remove_dir_all(log_directory(shared, pod)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("FailedCleanup", error.to_string()))
        }
        _ => Ok(()),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

async fn delete(shared: &Shared, handle: &Handle, pod: &Pod) -> Result<(), Failed> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), pod.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(pod.uid().to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    failpoint::hit("kubelet.delete.asked");
    match api.delete(pod.name(), &params).await {
        Ok(_) => {}
        Err(error) if is_gone(&error) => {}
        Err(error) => return Err(failed("FailedDelete", error.to_string())),
    }
    failpoint::hit("kubelet.delete.answered");
    // With finalizers the object stays on; the kubelet has nothing more to do with it.
    handle.memory.lock().deleted = true;
    Ok(())
}

/// Has a static pod shown by the API server. Until the informer tells of the mirror, no second one is made.
pub async fn mirror(shared: &Shared, handle: &Handle, pod: &Pod) -> Result<(), Failed> {
    statics::keep(shared, pod, handle.mirror().as_deref())
        .await
        .map_err(|error| failed("FailedMirror", error.to_string()))?;
    handle.memory.lock().acknowledged = None;
    Ok(())
}

/// Writes the newest status.
pub async fn write_status(shared: &Shared, handle: &Handle, pod: &Pod) -> Result<(), Failed> {
    let Some(status) = handle.memory.lock().status.clone() else { return Ok(()) };
    let mut value = serde_json::to_value(&status).map_err(|error| failed("Status", error.to_string()))?;
    let before = handle.memory.lock().acknowledged.clone().unwrap_or_default();
    let fields = value.as_object_mut().ok_or_else(|| failed("Status", "a status is no object"))?;
    // What is not said any more has to be unsaid; and addresses are replaced, not merged.
    for (field, had, has) in [
        ("reason", before.reason.is_some(), status.reason.is_some()),
        ("message", before.message.is_some(), status.message.is_some()),
    ] {
        if had && !has {
            fields.insert(field.to_owned(), serde_json::Value::Null);
        }
    }
    for (list, condition) in
        [("podIPs", before.pod_ips != status.pod_ips), ("hostIPs", before.host_ips != status.host_ips)]
    {
        if let (true, Some(serde_json::Value::Array(items))) = (condition, fields.get_mut(list)) {
            items.insert(0, serde_json::json!({"$patch": "replace"}));
        }
    }
    if let Some(serde_json::Value::Array(conditions)) = fields.get_mut("conditions") {
        for condition in conditions.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            for field in ["reason", "message"] {
                condition.entry(field).or_insert(serde_json::Value::Null);
            }
        }
        // Lists are merged: what is over has to be taken away.
        let said =
            |status: &PodStatus, name: &str| status.conditions.iter().flatten().any(|c| c.type_ == name);
        for name in ["PodResizePending", "PodResizeInProgress"] {
            if said(&before, name) && !said(&status, name) {
                conditions.push(serde_json::json!({"$patch": "delete", "type": name}));
            }
        }
    }
    // What is written of a static pod stands in its mirror.
    let shown = handle.mirror().and_then(|mirror| mirror.metadata.uid.clone());
    let uid = shown.filter(|_| handle.is_static).unwrap_or_else(|| pod.uid().to_owned());
    let patch = serde_json::json!({"metadata": {"uid": uid}, "status": value});
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), pod.namespace());
    failpoint::hit("kubelet.status.asked");
    match api.patch_status(pod.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await {
        Ok(_) => {}
        Err(error) if is_gone(&error) => {
            // The informer is about to tell that it is gone; its status interests nobody.
            tracing::debug!(pod = %pod.described(), "a status was not written: the pod is gone");
        }
        Err(error) => return Err(failed("Status", error.to_string())),
    }
    failpoint::hit("kubelet.status.answered");
    let mut memory = handle.memory.lock();
    if let Some(changed) = memory.changed_at.take() {
        let took = shared.config.clock.monotonic().saturating_sub(changed);
        shared.counts.took(&table::POD_STATUS_SYNC, &[], took);
    }
    memory.acknowledged = Some(status);
    Ok(())
}
