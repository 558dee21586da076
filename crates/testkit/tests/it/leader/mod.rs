//! Leader election on a paused clock, over links that fail: never two leaders, and always one in the end.

mod bench;
mod link;

use std::time::{Duration, Instant};

use base::{Random, SeededRandom, Shutdown};
use client::leader::Election;
use jiff::SignedDuration;

use bench::Bench;
use link::Link;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_next_one_takes_over_once_the_leader_is_silent_and_has_stopped() {
    let bench = Bench::new(&["a", "b"]);
    bench.pass(seconds(5)).await;
    assert_eq!(bench.leading(), ["a"]);
    for link in [Link::Hangs, Link::LosesAnswers, Link::Fails] {
        let leader = bench.leading()[0].clone();
        bench.set_link(&leader, link);
        // Nobody may take over before the lease has run out, and somebody must soon after.
        bench.pass(seconds(11)).await;
        assert_eq!(bench.leading(), [""; 0], "{link:?}: it stops by itself, before the lease ends");
        bench.pass(seconds(10)).await;
        let next = bench.leading();
        assert_eq!(next.len(), 1, "{link:?}: {next:?}");
        assert_ne!(next[0], leader, "{link:?}");
        bench.set_link(&leader, Link::Up);
        bench.elect(&leader);
        bench.pass(seconds(20)).await;
        assert_eq!(bench.leading(), next, "{link:?}: who comes back waits");
    }
    assert_eq!(bench.transitions(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_told_to_stop_gives_the_lease_back_at_once() {
    let bench = Bench::new(&["a", "b"]);
    bench.pass(seconds(5)).await;
    bench.stop("a");
    bench.pass(seconds(3)).await;
    assert_eq!(bench.leading(), ["b"]);
    // Even a server that does not answer keeps nobody from stopping.
    bench.set_link("b", Link::Hangs);
    bench.stop("b");
    bench.pass(seconds(3)).await;
    assert!(bench.has_ended("b"));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_changes_no_leader() {
    let bench = Bench::new(&["a", "b", "c"]);
    bench.pass(seconds(5)).await;
    for jump in [HOUR, -HOUR * 2, HOUR * 24, -HOUR * 23] {
        for who in ["a", "b", "c"] {
            bench.jump(who, jump);
            bench.pass(seconds(20)).await;
            assert_eq!(bench.leading(), ["a"], "after {jump:?} for {who}");
        }
    }
    assert_eq!(bench.transitions(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_patience_and_a_strangers_write_cost_no_leadership() {
    let bench = Bench::new(&["a", "b"]);
    bench.pass(seconds(5)).await;
    for link in [Link::Hangs, Link::Fails, Link::LosesAnswers] {
        bench.set_link("a", link);
        bench.pass(seconds(7)).await;
        bench.set_link("a", Link::Up);
        bench.pass(seconds(13)).await;
        assert_eq!(bench.leading(), ["a"], "{link:?}");
    }
    bench.write_between();
    bench.pass(seconds(30)).await;
    assert_eq!(bench.leading(), ["a"]);
    assert_eq!(bench.transitions(), 0);
    assert_eq!(bench.lease()["spec"]["strategy"], "OldestEmulationVersion", "what others put there stays");
}

#[tokio::test(start_paused = true)]
async fn there_are_never_two_leaders_whatever_the_links_and_clocks_do() {
    let names = ["a", "b", "c"];
    for seed in 0..8 {
        let random = SeededRandom::new(seed);
        let bench = Bench::new(&names);
        for _ in 0..120 {
            let who = names[random.below(3) as usize];
            match random.below(9) {
                0 | 1 => bench.set_link(who, Link::Hangs),
                2 => bench.set_link(who, Link::Fails),
                3 => bench.set_link(who, Link::LosesAnswers),
                4 => bench.jump(who, HOUR * (random.below(5) as i32 - 2)),
                5 => bench.stop(who),
                _ => bench.set_link(who, Link::Up),
            }
            bench.pass(Duration::from_millis(100 + random.below(9000))).await;
            names.iter().filter(|name| bench.has_ended(name)).for_each(|name| bench.elect(name));
        }
        assert_eq!(bench.most_at_once(), 1, "seed {seed}");
        names.iter().for_each(|name| bench.set_link(name, Link::Up));
        bench.pass(seconds(30)).await;
        assert_eq!(bench.leading().len(), 1, "seed {seed}: somebody leads once all is well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_real_server_is_given_back_and_taken_over() {
    let cluster = testkit::Cluster::start().await;
    let (sender, mut leaders) = tokio::sync::mpsc::unbounded_channel();
    let elect = |name: &'static str| {
        let times = (seconds(3), Duration::from_millis(200));
        let election = Election { lease: times.0, renew: times.1, ..Election::new("real", name) };
        let (stop, client, clock, sender) =
            (Shutdown::new(), cluster.admin(), cluster.clock().clone(), sender.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let work = || async {
                sender.send(name).unwrap();
                std::future::pending::<()>().await;
            };
            election.run(client, clock, stopped, work).await
        });
        (stop, task)
    };
    let mut next = async || tokio::time::timeout(testkit::wait::DEADLINE, leaders.recv()).await.unwrap();
    let (stop, first) = elect("a");
    assert_eq!(next().await, Some("a"));
    let (_kept, second) = elect("b");
    stop.trigger();
    assert!(first.await.unwrap(), "it led");
    assert_eq!(next().await, Some("b"), "given back");
    let (_also, third) = elect("c");
    let died = Instant::now();
    second.abort();
    assert_eq!(next().await, Some("c"), "taken over");
    assert!(died.elapsed() > Duration::from_millis(1500), "not before the lease was over");
    third.abort();
}
