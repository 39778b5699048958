//! A world of nodes in one process: true time, clocks that drift, a network that loses, doubles, delays and cuts, crashes between any
//! two effects, restarts from the journal. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet};

use federation::auction::{Ask, Figures};
use federation::tasks::{
    Done, Effect, Execution, Input, Lapse, Notice, Now, Party, Record, Settings, Submission, Tasks, WorkId,
};
use nips::Msat;
use nips::task::{Envelope, Factor, Label, Message, TaskId};
use nostr::{Keys, PublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::{self, Checks};
use crate::liar::Liar;

pub const UNIX: u64 = 1_800_000_000;

/// How hostile the world is.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub loss: f64,
    pub double: f64,
    pub delay_ms: u64,
    pub long_delay: f64,
    pub crash: f64,
    pub work_fails: f64,
}

impl Faults {
    pub const NONE: Self = Self { loss: 0.0, double: 0.0, delay_ms: 5, long_delay: 0.0, crash: 0.0, work_fails: 0.0 };
}

#[derive(Debug)]
pub enum Event {
    Deliver { to: usize, envelope: Envelope },
    Timer { node: usize, life: u32, number: u64 },
    Worked { node: usize, life: u32, work: WorkId, ok: bool },
    Asked { node: usize, life: u32, ask: Ask },
    Submit { node: usize, submission: Box<Submission> },
    Settle { node: usize, task: TaskId },
    Cancel { node: usize, task: TaskId },
    Suspect { node: usize, whom: usize },
    Crash { node: usize },
    Restart { node: usize },
    Freeze { node: usize, for_ms: u64 },
    Clock { node: usize, jump_s: i64 },
    Cut { from: usize, to: usize, on: bool },
    Lie { node: usize },
    Calm,
}

#[derive(Debug)]
pub struct Run {
    pub execution: Execution,
    pub fence_ms: Option<u64>,
}

pub struct Node {
    pub keys: Keys,
    pub passport: PublicKey,
    pub tasks: Option<Tasks>,
    pub journal: Vec<Record>,
    pub life: u32,
    pub runs: BTreeMap<WorkId, Run>,
    pub can: bool,
    pub speed_ms: u64,
    /// Its work never succeeds.
    pub fails: bool,
    pub began: u32,
    pub liar: Option<Liar>,
    pub guest: bool,
    pub factor: Factor,
    pub submitted: BTreeMap<TaskId, Submission>,
    pub finished: BTreeMap<TaskId, Done>,
    pub lapsed: BTreeMap<TaskId, Lapse>,
    pub labels: BTreeMap<(TaskId, PublicKey), Label>,
    pub notices: Vec<Notice>,
    timer: u64,
    frozen_until: u64,
    rate: f64,
    boot_base: f64,
    boot_since: u64,
    wall_skew_s: i64,
}

impl Node {
    pub fn install(&self) -> PublicKey {
        self.keys.public_key()
    }

    pub fn party(&self) -> Party {
        Party { install: self.install(), passport: self.passport, guest: self.guest, factor: self.factor }
    }

    pub fn boot_ms(&self, now: u64) -> u64 {
        (self.boot_base + (now - self.boot_since) as f64 * self.rate) as u64
    }

    fn time(&self, now: u64) -> Now {
        let unix_s = (UNIX + now / 1_000).checked_add_signed(self.wall_skew_s).unwrap_or(UNIX);
        Now { boot_ms: self.boot_ms(now), unix_s }
    }

    /// True time until the node's boottime reads `at_ms`, rounded up.
    fn until(&self, at_ms: u64, now: u64) -> u64 {
        let mut wait = ((at_ms.saturating_sub(self.boot_ms(now))) as f64 / self.rate) as u64;
        while self.boot_ms(now + wait) < at_ms {
            wait += 1;
        }
        wait
    }
}

pub struct World {
    pub rng: StdRng,
    pub now: u64,
    pub nodes: Vec<Node>,
    pub faults: Faults,
    pub settings: Settings,
    pub checks: Checks,
    pub seen: Vec<Envelope>,
    pub trace: bool,
    cuts: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub steps: u64,
}

pub fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

impl World {
    pub fn new(seed: u64, nodes: usize, faults: Faults, drift: f64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (0..nodes)
            .map(|n| {
                let n = u8::try_from(n).unwrap();
                let (keys, passport) = (keys(n + 1), keys(n + 101).public_key());
                let settings = Settings::default();
                Node {
                    tasks: Some(Tasks::new(keys.clone(), passport, settings)),
                    keys,
                    passport,
                    journal: Vec::new(),
                    life: 0,
                    runs: BTreeMap::new(),
                    can: true,
                    speed_ms: rng.random_range(10..3_000),
                    fails: false,
                    began: 0,
                    liar: None,
                    guest: false,
                    factor: Factor::from_permille(rng.random_range(1..=1_000)).unwrap(),
                    submitted: BTreeMap::new(),
                    finished: BTreeMap::new(),
                    lapsed: BTreeMap::new(),
                    labels: BTreeMap::new(),
                    notices: Vec::new(),
                    timer: 0,
                    frozen_until: 0,
                    rate: 1.0 + rng.random_range(-drift..=drift),
                    boot_base: rng.random_range(0.0..1e9),
                    boot_since: 0,
                    wall_skew_s: if drift == 0.0 { 0 } else { rng.random_range(-100_000..100_000) },
                }
            })
            .collect();
        Self {
            rng,
            now: 0,
            nodes,
            faults,
            settings: Settings::default(),
            checks: Checks::default(),
            seen: Vec::new(),
            trace: std::env::var_os("TIMMY_TRACE").is_some(),
            cuts: BTreeSet::new(),
            queue: BTreeMap::new(),
            number: 0,
            steps: 0,
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.insert((at.max(self.now), self.number), event);
    }

    pub fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    pub fn index(&self, install: PublicKey) -> Option<usize> {
        self.nodes.iter().position(|node| node.install() == install)
    }

    /// Takes the next event; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        self.steps += 1;
        if self.trace {
            eprintln!("{at:>8} {}", short(&event));
        }
        self.take(event);
        self.check_runs();
        true
    }

    /// Runs until `end` or until nothing is left; a run that never ends fails.
    pub fn run_until(&mut self, end: u64) {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
            assert!(self.steps < 200_000, "the run does not end");
        }
        self.now = self.now.max(end);
    }

    /// Runs until `done`, at most to `end`.
    pub fn run_while(&mut self, end: u64, mut going: impl FnMut(&Self) -> bool) {
        while going(self) && self.now < end && self.step() {
            assert!(self.steps < 200_000, "the run does not end");
        }
    }

    fn take(&mut self, event: Event) {
        let frozen = |world: &Self, node: usize| world.nodes[node].frozen_until > world.now;
        let waits = match &event {
            Event::Deliver { to: node, .. }
            | Event::Timer { node, .. }
            | Event::Worked { node, .. }
            | Event::Asked { node, .. }
            | Event::Submit { node, .. }
            | Event::Settle { node, .. }
            | Event::Cancel { node, .. } => frozen(self, *node).then(|| self.nodes[*node].frozen_until),
            _ => None,
        };
        if let Some(until) = waits {
            return self.at(until, event);
        }
        match event {
            Event::Deliver { to, envelope } => {
                let Some(author) = self.index(envelope.author()) else { return };
                let from = self.nodes[author].party();
                self.input(to, Input::Received { envelope, from });
            }
            Event::Timer { node, life, number } => {
                if self.nodes[node].life == life && self.nodes[node].timer == number {
                    self.input(node, Input::Timer);
                }
            }
            Event::Worked { node, life, work, ok } => self.worked(node, life, work, ok),
            Event::Asked { node, life, ask } => self.asked(node, life, &ask),
            Event::Submit { node, submission } => {
                self.nodes[node].submitted.insert(submission.task, (*submission).clone());
                self.input(node, Input::Submit(submission));
            }
            Event::Settle { node, task } => self.input(node, Input::Settled(task)),
            Event::Cancel { node, task } => self.input(node, Input::Cancel(task)),
            Event::Suspect { node, whom } => {
                let whom = self.nodes[whom].install();
                self.input(node, Input::PeerDead(whom));
            }
            Event::Crash { node } => self.crash(node),
            Event::Restart { node } => self.restart(node),
            Event::Freeze { node, for_ms } => self.nodes[node].frozen_until = self.now + for_ms,
            Event::Clock { node, jump_s } => self.nodes[node].wall_skew_s += jump_s,
            Event::Cut { from, to, on } => {
                if on {
                    self.cuts.insert((from, to));
                } else {
                    self.cuts.remove(&(from, to));
                }
            }
            Event::Lie { node } => Liar::lie(self, node),
            Event::Calm => self.calm(),
        }
    }

    /// The end of all faults: what still fails after this is the machines' fault.
    fn calm(&mut self) {
        self.faults = Faults { delay_ms: 20, ..Faults::NONE };
        self.cuts.clear();
        for node in 0..self.nodes.len() {
            if self.nodes[node].tasks.is_none() {
                self.restart(node);
            }
        }
    }

    fn worked(&mut self, node: usize, life: u32, work: WorkId, ok: bool) {
        if self.nodes[node].life != life || !self.nodes[node].runs.contains_key(&work) {
            return;
        }
        let run = self.nodes[node].runs.remove(&work).unwrap();
        let input = if ok {
            Input::Done { work, output: check::output(&run.execution.what.input, node, work.attempt) }
        } else {
            Input::Failed { work, word: "it did not work".into() }
        };
        self.input(node, input);
    }

    fn asked(&mut self, node: usize, life: u32, ask: &Ask) {
        if self.nodes[node].life != life {
            return;
        }
        let low = self.nodes[node].liar.as_ref().is_some_and(|liar| liar.bids_nothing);
        let figures = Figures {
            queued: u32::try_from(self.nodes[node].runs.len()).unwrap(),
            slots: 2,
            typical_ms: if low { 0 } else { self.nodes[node].speed_ms },
            cost: Msat(0),
        };
        let mut nonce = [0; 32];
        self.rng.fill(&mut nonce);
        let figures = self.nodes[node].can.then_some(figures);
        self.input(node, Input::Figures { requester: ask.requester, attempt: ask.attempt, figures, nonce });
    }

    /// Feeds a node; it may crash before it has written anything down, or after any of its effects.
    pub fn input(&mut self, node: usize, input: Input) {
        let now = self.nodes[node].time(self.now);
        self.checks.before(&self.nodes[node], &input, now.boot_ms);
        let Some(tasks) = &mut self.nodes[node].tasks else { return };
        let effects = tasks.handle(input, now);
        self.effects(node, effects);
    }

    fn effects(&mut self, node: usize, effects: Vec<Effect>) {
        let crash = self.faults.crash > 0.0 && self.rng.random_bool(self.faults.crash);
        let (records, rest): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Journal(_)));
        let last = if crash { self.rng.random_range(0..=rest.len() + 1) } else { usize::MAX };
        if last == 0 {
            return self.crash(node);
        }
        for record in records {
            let Effect::Journal(record) = record else { continue };
            if self.trace {
                eprintln!("         {node} writes {}", cut(&format!("{record:?}")));
            }
            self.checks.record(node, &self.nodes[node], &record);
            if let Record::Called(attempt) | Record::OwnWork(attempt) = &record {
                check::free(self, node, *attempt);
            }
            self.nodes[node].journal.push(record);
        }
        for (n, effect) in rest.into_iter().enumerate() {
            if n + 1 == last {
                return self.crash(node);
            }
            self.carry_out(node, effect);
        }
        if crash {
            self.crash(node);
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Journal(_) => {}
            Effect::Broadcast(envelope) => {
                for to in (0..self.nodes.len()).filter(|to| *to != node) {
                    self.send(node, to, &envelope);
                }
            }
            Effect::SendTo(to, envelope) => {
                if let Some(to) = self.index(to) {
                    self.send(node, to, &envelope);
                }
            }
            Effect::WakeAt(at_ms) => {
                self.nodes[node].timer += 1;
                let number = self.nodes[node].timer;
                let late = if self.faults.loss > 0.0 { self.rng.random_range(0..40) } else { 0 };
                let wait = self.nodes[node].until(at_ms, self.now) + late;
                self.after(wait, Event::Timer { node, life, number });
            }
            Effect::AskFigures(ask) => self.after(1, Event::Asked { node, life, ask }),
            Effect::Execute(execution) => self.execute(node, execution),
            Effect::Extend(work, fence_ms) => {
                if let Some(run) = self.nodes[node].runs.get_mut(&work) {
                    assert!(run.fence_ms.is_some_and(|old| old < fence_ms), "a fence moves forward");
                    run.fence_ms = Some(fence_ms);
                }
            }
            Effect::Stop(work, why) => {
                if self.trace {
                    eprintln!("         {node} stops {:?}: {why:?}", work.attempt.epoch);
                }
                self.nodes[node].runs.remove(&work);
            }
            Effect::Finished(done) => {
                self.checks.finished(&self.nodes[node], &done);
                check::genuine(self, node, &done);
                self.after(3, Event::Settle { node, task: done.task });
                self.nodes[node].finished.insert(done.task, *done);
            }
            Effect::Lapsed(task, why) => {
                self.checks.lapsed(&self.nodes[node], task, &why);
                self.after(3, Event::Settle { node, task });
                self.nodes[node].lapsed.insert(task, why);
            }
            Effect::Label { label, .. } => {
                self.checks.label(&self.nodes[node], &label);
                self.nodes[node].labels.insert((label.task, label.subject), label);
            }
            Effect::Notice(notice) => {
                if self.trace {
                    eprintln!("         {node} notices {}", cut(&format!("{notice:?}")));
                }
                self.nodes[node].notices.push(notice);
            }
        }
    }

    fn execute(&mut self, node: usize, execution: Execution) {
        let work = execution.work;
        check::alone(self, node, &execution);
        self.checks.executions += 1;
        let fence_ms = execution.fence_ms;
        assert!(self.nodes[node].runs.insert(work, Run { execution, fence_ms }).is_none(), "begun twice");
        let speed = self.nodes[node].speed_ms;
        let takes = match (self.faults.loss > 0.0, self.rng.random_bool(0.2)) {
            (false, _) => speed,
            (true, true) => speed * 10,
            (true, false) => self.rng.random_range(1..=speed),
        };
        self.nodes[node].began += 1;
        let fails = self.nodes[node].fails;
        let ok = !fails && (self.faults.work_fails == 0.0 || !self.rng.random_bool(self.faults.work_fails));
        let life = self.nodes[node].life;
        self.after(takes, Event::Worked { node, life, work, ok });
    }

    /// Sends one copy, or none, or two.
    pub fn send(&mut self, from: usize, to: usize, envelope: &Envelope) {
        self.seen.push(envelope.clone());
        let Some(envelopes) = Liar::twist(self, from, to, envelope) else { return };
        for envelope in envelopes {
            self.post(from, to, &envelope);
        }
    }

    /// Gives an envelope to the network.
    pub fn post(&mut self, from: usize, to: usize, envelope: &Envelope) {
        let Faults { loss, double, delay_ms, long_delay, .. } = self.faults;
        let copies = if double > 0.0 && self.rng.random_bool(double) { 2 } else { 1 };
        for _ in 0..copies {
            if self.cuts.contains(&(from, to)) || (loss > 0.0 && self.rng.random_bool(loss)) {
                continue;
            }
            let mut delay = self.rng.random_range(1..=delay_ms);
            if long_delay > 0.0 && self.rng.random_bool(long_delay) {
                delay += self.rng.random_range(0..30_000);
            }
            self.after(delay, Event::Deliver { to, envelope: envelope.clone() });
        }
    }

    pub fn crash(&mut self, node: usize) {
        if self.nodes[node].tasks.take().is_none() {
            return;
        }
        if self.trace {
            eprintln!("         {node} crashes");
        }
        self.nodes[node].runs.clear();
        self.nodes[node].life += 1;
        let down = self.rng.random_range(1..15_000);
        self.after(down, Event::Restart { node });
    }

    fn restart(&mut self, node: usize) {
        if self.nodes[node].tasks.is_some() {
            return;
        }
        if self.rng.random_bool(0.3) {
            // The whole machine was started anew: its boottime begins again.
            (self.nodes[node].boot_base, self.nodes[node].boot_since) = (0.0, self.now);
        }
        if self.rng.random_bool(0.05) {
            let text = serde_json::to_string(&self.nodes[node].journal).unwrap();
            let read: Vec<Record> = serde_json::from_str(&text).unwrap();
            assert_eq!(read, self.nodes[node].journal, "the journal reads back as it was written");
        }
        let (keys, passport, time) = {
            let node = &self.nodes[node];
            (node.keys.clone(), node.passport, node.time(self.now))
        };
        let (tasks, effects) = Tasks::restore(keys, passport, self.settings, &self.nodes[node].journal, time);
        self.nodes[node].tasks = Some(tasks);
        self.nodes[node].life += 1;
        self.effects(node, effects);
        self.resubmit(node);
    }

    /// What was never written down was never taken: its door asks again.
    fn resubmit(&mut self, node: usize) {
        let opened: BTreeSet<TaskId> = self.nodes[node].journal.iter().map(Record::task).collect();
        let all = self.nodes[node].submitted.values();
        let lost: Vec<Submission> = all.filter(|s| !opened.contains(&s.task)).cloned().collect();
        for submission in lost {
            self.after(1, Event::Submit { node, submission: Box::new(submission) });
        }
    }

    /// What a node works on never ends.
    pub fn drop_work(&mut self, node: usize) {
        self.queue.retain(|_, event| !matches!(event, Event::Worked { node: of, .. } if *of == node));
    }

    /// How long one worker may have a task; before anything has begun.
    pub fn set_work_ms(&mut self, work_ms: u64) {
        self.settings.work_ms = work_ms;
        for node in &mut self.nodes {
            node.tasks = Some(Tasks::new(node.keys.clone(), node.passport, self.settings));
        }
    }

    /// No worker goes on after its fence: whoever hears of the time stops.
    fn check_runs(&mut self) {
        for node in &mut self.nodes {
            let boot_ms = node.boot_ms(self.now);
            // The driver's own guard, for a machine whose timer is late.
            node.runs.retain(|_, run| run.fence_ms.is_none_or(|fence| boot_ms < fence));
        }
    }

    /// Something that looks like a task.
    pub fn submission(&mut self) -> Submission {
        let mut id = [0; 32];
        self.rng.fill(&mut id);
        Submission {
            task: TaskId::from_bytes(id),
            ability: nips::task::Ability::of_kind(5_000).unwrap(),
            audience: nips::Audience::Owner,
            input: format!("work {}", self.rng.random_range(0..1_000_000)),
            guests: false,
            reach: federation::tasks::Reach::Lan,
            only: None,
            may_self: self.rng.random_bool(0.3),
            expires_at: None,
            publish: true,
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

fn short(event: &Event) -> String {
    match event {
        Event::Deliver { to, envelope } => {
            let text = match envelope.message() {
                Message::Input(_) => "Input".to_owned(),
                Message::Result(_) => "Result".to_owned(),
                message => format!("{message:?}"),
            };
            format!("{to} gets {} epoch {}", cut(&text), envelope.message().attempt().epoch)
        }
        event => cut(&format!("{event:?}")),
    }
}
