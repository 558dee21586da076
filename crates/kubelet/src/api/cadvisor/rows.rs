//! The families of a group that have one sample for each. Pure.

use super::super::exposition::{float, seconds};
use super::reading::Reading;

/// A family with one sample a group.
pub struct Row {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub value: fn(&Reading) -> Option<f64>,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<f64>) -> Row {
    Row { name, kind: "counter", help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<f64>) -> Row {
    Row { name, kind: "gauge", help, value }
}

/// A group that is not held back has no enforcement periods.
fn held(reading: &Reading, number: u64) -> Option<f64> {
    reading.bounds.quota.map(|_| float(number))
}

/// What is not bounded is told as 0.
fn bound(bytes: Option<u64>) -> Option<f64> {
    Some(float(bytes.unwrap_or(0)))
}

fn waited(reading: &Reading, of: usize, all: bool) -> Option<f64> {
    let pressure = reading.pressure.get(of).copied().flatten()?;
    Some(seconds(if all { pressure.full.total } else { pressure.some.total }))
}

/// All of them.
pub const ROWS: &[Row] = &[
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |r| {
        r.detail.user.map(seconds)
    }),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", |r| {
        r.detail.system.map(seconds)
    }),
    counter("container_cpu_cfs_burst_periods_total", "Number of periods when burst occurs.", |r| {
        held(r, r.detail.bursts)
    }),
    counter(
        "container_cpu_cfs_burst_seconds_total",
        "Total time duration the container has been bursted.",
        |r| r.bounds.quota.map(|_| seconds(r.detail.burst)),
    ),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |r| {
        held(r, r.detail.periods)
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |r| {
        held(r, r.detail.throttled_periods)
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |r| r.bounds.quota.map(|_| seconds(r.detail.throttled)),
    ),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |r| Some(float(r.detail.cache))),
    counter("container_memory_failcnt", "Number of memory usage hits limits", |r| {
        Some(float(r.detail.limit_hits))
    }),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", |r| {
        Some(float(r.detail.kernel))
    }),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", |r| {
        Some(float(r.detail.mapped))
    }),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", |r| {
        r.detail.peak.map(float)
    }),
    gauge("container_memory_rss", "Size of RSS in bytes.", |r| r.usage.rss.map(float)),
    gauge("container_memory_swap", "Container swap usage in bytes.", |r| Some(float(r.detail.swap))),
    gauge("container_memory_total_active_file_bytes", "Current total active file in bytes.", |r| {
        Some(float(r.detail.active_file))
    }),
    gauge("container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", |r| {
        Some(float(r.detail.inactive_file))
    }),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |r| r.usage.memory.map(float),
    ),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", |r| {
        r.usage.working_set.map(float)
    }),
    counter("container_oom_events_total", "Count of out of memory events observed for the container", |r| {
        Some(float(r.out_of_memory))
    }),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        |r| waited(r, 0, true),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |r| waited(r, 0, false),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |r| waited(r, 2, true),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        |r| waited(r, 2, false),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |r| waited(r, 1, true),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        |r| waited(r, 1, false),
    ),
    gauge("container_file_descriptors", "Number of open file descriptors for the container.", |r| {
        r.open.map(|open| float(open.descriptors))
    }),
    gauge("container_sockets", "Number of open sockets for the container.", |r| {
        r.open.map(|open| float(open.sockets))
    }),
    gauge("container_spec_cpu_period", "CPU period of the container.", |r| r.bounds.period.map(float)),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |r| r.bounds.quota.map(float)),
    gauge("container_spec_cpu_shares", "CPU share of the container.", |r| r.bounds.shares.map(float)),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", |r| bound(r.bounds.memory)),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation limit for the container.",
        |r| bound(r.bounds.reserved),
    ),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", |r| {
        bound(r.bounds.memory_and_swap)
    }),
    gauge("container_threads", "Number of threads running inside the container", |r| r.usage.pids.map(float)),
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |r| r.usage.pids.map(|_| float(r.detail.pids_limit.unwrap_or(0))),
    ),
];
