//! Every field of a KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`): its form, and upstream's default.

use serde_json::{Map, Value};

/// What may stand in a field.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    Bool,
    Int(&'static str),
    Float,
    Text,
    /// As Go writes it.
    Duration,
    List(&'static Form),
    Map(&'static Form),
    Object(&'static [Field]),
    /// Its parts are not looked at.
    Any,
}

/// A field; its default is JSON, and empty when upstream sets none.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub form: Form,
    pub default: &'static str,
}

const fn field(name: &'static str, form: Form, default: &'static str) -> Field {
    Field { name, form, default }
}

use Form::{Any, Bool, Duration, Float, Int, List, Object, Text};

const I32: Form = Int("int32");
const I64: Form = Int("int64");
const TEXTS: Form = List(&Text);
const TEXT_MAP: Form = Form::Map(&Text);

const AUTHENTICATION: &[Field] = &[
    field("x509", Object(&[field("clientCAFile", Text, "")]), "{}"),
    field(
        "webhook",
        Object(&[field("enabled", Bool, "true"), field("cacheTTL", Duration, "\"2m0s\"")]),
        "{}",
    ),
    field("anonymous", Object(&[field("enabled", Bool, "false")]), "{}"),
];
const AUTHORIZATION: &[Field] = &[
    field("mode", Text, "\"Webhook\""),
    field(
        "webhook",
        Object(&[
            field("cacheAuthorizedTTL", Duration, "\"5m0s\""),
            field("cacheUnauthorizedTTL", Duration, "\"30s\""),
        ]),
        "{}",
    ),
];
const BY_PRIORITY: &[Field] = &[field("priority", I32, "0"), field("shutdownGracePeriodSeconds", I64, "0")];
const RESERVED_MEMORY: &[Field] = &[field("numaNode", I32, "0"), field("limits", Any, "")];
const LOGGING: &[Field] = &[
    field("format", Text, "\"text\""),
    field("flushFrequency", Any, "\"5s\""),
    field("verbosity", I64, "0"),
    field("vmodule", Any, ""),
    field("options", Any, ""),
];
const TAINT: &[Field] = &[
    field("key", Text, ""),
    field("value", Text, ""),
    field("effect", Text, ""),
    field("timeAdded", Text, ""),
];

/// All of them, in upstream's order.
pub const FIELDS: &[Field] = &[
    field("apiVersion", Text, ""),
    field("kind", Text, ""),
    field("enableServer", Bool, "true"),
    field("staticPodPath", Text, ""),
    field("podLogsDir", Text, "\"/var/log/pods\""),
    field("syncFrequency", Duration, "\"1m0s\""),
    field("fileCheckFrequency", Duration, "\"20s\""),
    field("httpCheckFrequency", Duration, "\"20s\""),
    field("staticPodURL", Text, ""),
    field("staticPodURLHeader", Form::Map(&TEXTS), ""),
    field("address", Text, "\"0.0.0.0\""),
    field("port", I32, "10250"),
    field("readOnlyPort", I32, ""),
    field("tlsCertFile", Text, ""),
    field("tlsPrivateKeyFile", Text, ""),
    field("tlsCipherSuites", TEXTS, ""),
    field("tlsCurvePreferences", List(&I32), ""),
    field("tlsMinVersion", Text, ""),
    field("rotateCertificates", Bool, ""),
    field("serverTLSBootstrap", Bool, ""),
    field("authentication", Object(AUTHENTICATION), "{}"),
    field("authorization", Object(AUTHORIZATION), "{}"),
    field("registryPullQPS", I32, "5"),
    field("registryBurst", I32, "10"),
    field("imagePullCredentialsVerificationPolicy", Text, "\"NeverVerifyPreloadedImages\""),
    field("preloadedImagesVerificationAllowlist", TEXTS, ""),
    field("eventRecordQPS", I32, "50"),
    field("eventBurst", I32, "100"),
    field("enableDebuggingHandlers", Bool, "true"),
    field("enableContentionProfiling", Bool, ""),
    field("healthzPort", I32, "10248"),
    field("healthzBindAddress", Text, "\"127.0.0.1\""),
    field("oomScoreAdj", I32, "-999"),
    field("clusterDomain", Text, ""),
    field("clusterDNS", TEXTS, ""),
    field("streamingConnectionIdleTimeout", Duration, "\"4h0m0s\""),
    field("nodeStatusUpdateFrequency", Duration, "\"10s\""),
    field("nodeStatusReportFrequency", Duration, "\"5m0s\""),
    field("nodeLeaseDurationSeconds", I32, "40"),
    field("imageMinimumGCAge", Duration, "\"2m0s\""),
    field("imageMaximumGCAge", Duration, "\"0s\""),
    field("imageGCHighThresholdPercent", I32, "85"),
    field("imageGCLowThresholdPercent", I32, "80"),
    field("volumeStatsAggPeriod", Duration, "\"1m0s\""),
    field("kubeletCgroups", Text, ""),
    field("systemCgroups", Text, ""),
    field("cgroupRoot", Text, ""),
    field("cgroupsPerQOS", Bool, "true"),
    field("cgroupDriver", Text, "\"cgroupfs\""),
    field("cpuManagerPolicy", Text, "\"none\""),
    field("singleProcessOOMKill", Bool, ""),
    field("cpuManagerPolicyOptions", TEXT_MAP, ""),
    field("cpuManagerReconcilePeriod", Duration, "\"10s\""),
    field("memoryManagerPolicy", Text, "\"None\""),
    field("topologyManagerPolicy", Text, "\"none\""),
    field("topologyManagerScope", Text, "\"container\""),
    field("topologyManagerPolicyOptions", TEXT_MAP, ""),
    field("qosReserved", TEXT_MAP, ""),
    field("runtimeRequestTimeout", Duration, "\"2m0s\""),
    field("hairpinMode", Text, "\"promiscuous-bridge\""),
    field("maxPods", I32, "110"),
    field("podCIDR", Text, ""),
    field("podPidsLimit", I64, "-1"),
    field("resolvConf", Text, "\"/etc/resolv.conf\""),
    field("runOnce", Bool, ""),
    field("cpuCFSQuota", Bool, "true"),
    field("cpuCFSQuotaPeriod", Duration, "\"100ms\""),
    field("nodeStatusMaxImages", I32, "50"),
    field("maxOpenFiles", I64, "1000000"),
    field("contentType", Text, "\"application/vnd.kubernetes.protobuf\""),
    field("kubeAPIQPS", I32, "50"),
    field("kubeAPIBurst", I32, "100"),
    field("serializeImagePulls", Bool, "true"),
    field("maxParallelImagePulls", I32, ""),
    field("evictionHard", TEXT_MAP, ""),
    field("evictionSoft", TEXT_MAP, ""),
    field("evictionSoftGracePeriod", TEXT_MAP, ""),
    field("evictionPressureTransitionPeriod", Duration, "\"5m0s\""),
    field("evictionMaxPodGracePeriod", I32, ""),
    field("evictionMinimumReclaim", TEXT_MAP, ""),
    field("mergeDefaultEvictionSettings", Bool, "false"),
    field("podsPerCore", I32, ""),
    field("enableControllerAttachDetach", Bool, "true"),
    field("protectKernelDefaults", Bool, ""),
    field("makeIPTablesUtilChains", Bool, "true"),
    field("iptablesMasqueradeBit", I32, "14"),
    field("iptablesDropBit", I32, "15"),
    field("featureGates", Form::Map(&Bool), ""),
    field("failSwapOn", Bool, "true"),
    field("memorySwap", Object(&[field("swapBehavior", Text, "")]), "{}"),
    field("containerLogMaxSize", Text, "\"10Mi\""),
    field("containerLogMaxFiles", I32, "5"),
    field("containerLogMaxWorkers", I32, "1"),
    field("containerLogMonitorInterval", Duration, "\"10s\""),
    field("configMapAndSecretChangeDetectionStrategy", Text, "\"Watch\""),
    field("systemReserved", TEXT_MAP, ""),
    field("kubeReserved", TEXT_MAP, ""),
    field("reservedSystemCPUs", Text, ""),
    field("showHiddenMetricsForVersion", Text, ""),
    field("systemReservedCgroup", Text, ""),
    field("kubeReservedCgroup", Text, ""),
    field("enforceNodeAllocatable", TEXTS, "[\"pods\"]"),
    field("allowedUnsafeSysctls", TEXTS, ""),
    field("defaultPodSysctls", TEXT_MAP, ""),
    field("volumePluginDir", Text, "\"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/\""),
    field("providerID", Text, ""),
    field("kernelMemcgNotification", Bool, ""),
    field("logging", Object(LOGGING), "{}"),
    field("enableSystemLogHandler", Bool, "true"),
    field("enableSystemLogQuery", Bool, ""),
    field("shutdownGracePeriod", Duration, "\"0s\""),
    field("shutdownGracePeriodCriticalPods", Duration, "\"0s\""),
    field("shutdownGracePeriodByPodPriority", List(&Object(BY_PRIORITY)), ""),
    field("crashLoopBackOff", Object(&[field("maxContainerRestartPeriod", Duration, "")]), "{}"),
    field("reservedMemory", List(&Object(RESERVED_MEMORY)), ""),
    field("enableProfilingHandler", Bool, "true"),
    field("enableDebugFlagsHandler", Bool, "true"),
    field("seccompDefault", Bool, "false"),
    field("memoryThrottlingFactor", Float, ""),
    field("memoryReservationPolicy", Text, "\"None\""),
    field("registerWithTaints", List(&Object(TAINT)), ""),
    field("registerNode", Bool, "true"),
    field("tracing", Any, ""),
    field("localStorageCapacityIsolation", Bool, "true"),
    field("containerRuntimeEndpoint", Text, "\"unix:///run/containerd/containerd.sock\""),
    field("imageServiceEndpoint", Text, ""),
    field("failCgroupV1", Bool, "true"),
    field("userNamespaces", Object(&[field("idsPerPod", I64, "")]), ""),
];

/// Looks at the fields of an object. What is unknown is named in `unknown`, by its path.
///
/// # Errors
/// Names the first field that holds what it cannot.
pub fn check(
    object: &Map<String, Value>,
    fields: &[Field],
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    for (name, value) in object {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match fields.iter().find(|field| field.name == name) {
            Some(field) => check_value(value, field.form, &path, unknown)?,
            None => unknown.push(path),
        }
    }
    Ok(())
}

fn check_value(value: &Value, form: Form, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let wanted = match (value, form) {
        (Value::Null, _) | (_, Any) | (Value::Bool(_), Bool) | (Value::String(_), Text) => return Ok(()),
        (Value::Number(_), Float) => return Ok(()),
        (Value::Number(number), Int("int32"))
            if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
        {
            return Ok(());
        }
        (Value::Number(number), Int("int64")) if number.is_i64() => return Ok(()),
        (Value::String(text), Duration) => {
            return super::duration::parse(text)
                .map(drop)
                .ok_or_else(|| format!("{path}: time: invalid duration {text:?}"));
        }
        (Value::Array(items), List(form)) => {
            for (index, item) in items.iter().enumerate() {
                check_value(item, *form, &format!("{path}[{index}]"), unknown)?;
            }
            return Ok(());
        }
        (Value::Object(entries), Form::Map(form)) => {
            for (key, item) in entries {
                check_value(item, *form, &format!("{path}.{key}"), unknown)?;
            }
            return Ok(());
        }
        (Value::Object(object), Object(fields)) => return check(object, fields, path, unknown),
        (_, Bool) => "bool",
        (_, Int(name)) => name,
        (_, Float) => "float64",
        (_, Text) => "string",
        (_, Duration) => "v1.Duration",
        (_, List(_)) => "slice",
        (_, Form::Map(_)) => "map",
        (_, Object(_)) => "struct",
    };
    let found = match value {
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        _ => "object",
    };
    Err(format!(
        "json: cannot unmarshal {found} into Go struct field KubeletConfiguration.{path} of type {wanted}"
    ))
}

/// Sets what is not set. Zeros of fields that Go cannot tell from unset ones are set, too, as upstream does.
pub fn default(object: &mut Map<String, Value>, fields: &[Field]) {
    for field in fields {
        let unset = match (object.get(field.name), field.form) {
            (None | Some(Value::Null), _) => true,
            (Some(Value::String(text)), Text) => text.is_empty() && field.name != "resolvConf",
            (Some(Value::String(text)), Duration) => {
                super::duration::parse(text).is_some_and(|duration| duration.is_zero())
            }
            _ => false,
        };
        if unset {
            match serde_json::from_str(field.default) {
                Ok(value) => drop(object.insert(field.name.to_owned(), value)),
                // Without a default there is nothing to say; `null` would be shown.
                Err(_) => drop(object.remove(field.name)),
            }
        }
        if let (Object(fields), Some(Value::Object(inner))) = (field.form, object.get_mut(field.name)) {
            default(inner, fields);
        }
    }
}
