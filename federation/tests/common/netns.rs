//! Hosts on a LAN of network namespaces: a switch (bridge) and cables (veth pairs) that can be pulled.
//!
//! Needs the right to make network namespaces. Nothing outside of them is touched, and they end with the [`Lan`].

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// True when this process may make network namespaces.
pub fn may_unshare() -> bool {
    Command::new("unshare").args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// A process that holds a namespace open.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["-n", "--", "sh", "-c", "echo ready; exec sleep 86400"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says that it is ready");
        assert_eq!(line, "ready\n", "a namespace was made");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// A command in this namespace.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid(), "-n", "--"]).arg(program);
        command
    }

    fn ip(&self, line: &str) {
        let status = self.command("ip").args(line.split_whitespace()).status().expect("ip runs");
        assert!(status.success(), "ip {line}");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A LAN; host `n` (from 0) is 10.77.0.(n+1) and fd77::(n+1) on its `eth0`.
pub struct Lan {
    switch: Holder,
    hosts: Vec<Holder>,
}

impl Lan {
    pub fn new(hosts: usize) -> Self {
        let switch = Holder::new();
        switch.ip("link add br0 type bridge mcast_snooping 0 forward_delay 0");
        switch.ip("link set br0 up");
        let mut lan = Self { switch, hosts: Vec::new() };
        for _ in 0..hosts {
            lan.plug_in();
        }
        lan
    }

    /// Adds a host; its number.
    pub fn plug_in(&mut self) -> usize {
        let (n, host) = (self.hosts.len(), Holder::new());
        self.switch.ip(&format!("link add cable{n} type veth peer name eth0 netns {}", host.pid()));
        self.switch.ip(&format!("link set cable{n} master br0 up"));
        host.ip("link set lo up");
        self.hosts.push(host);
        self.address(n);
        n
    }

    /// Gives a host its addresses, again after its interface was down (which takes the IPv6 one away).
    pub fn address(&self, n: usize) {
        let host = &self.hosts[n];
        host.ip(&format!("addr replace {}/24 dev eth0", self.ip4(n)));
        host.ip(&format!("addr replace fd77::{:x}/64 dev eth0 nodad", n + 1));
        host.ip("link set eth0 up");
    }

    pub fn ip4(&self, n: usize) -> String {
        format!("10.77.0.{}", n + 1)
    }

    /// Pulls the cable of a host at the switch.
    pub fn cut(&self, n: usize) {
        self.switch.ip(&format!("link set cable{n} down"));
    }

    /// Plugs the cable in again.
    pub fn mend(&self, n: usize) {
        self.switch.ip(&format!("link set cable{n} up"));
    }

    /// What host `from` sends to host `to` goes nowhere; the other way works.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.ip(from, &format!("route add blackhole {}/32", self.ip4(to)));
        self.ip(from, &format!("-6 route add blackhole fd77::{:x}/128", to + 1));
    }

    /// Ends [`Self::cut_one_way`].
    pub fn mend_one_way(&self, from: usize, to: usize) {
        self.ip(from, &format!("route del blackhole {}/32", self.ip4(to)));
        self.ip(from, &format!("-6 route del blackhole fd77::{:x}/128", to + 1));
    }

    /// Runs `ip` on a host.
    pub fn ip(&self, n: usize, line: &str) {
        self.hosts[n].ip(line);
    }

    /// What is put before a command so that it runs on a host.
    pub fn prefix(&self, n: usize) -> Vec<String> {
        ["nsenter", "-t", &self.hosts[n].pid(), "-n", "--"].map(str::to_owned).to_vec()
    }

    /// A command on a host. Its process id is the program's own: `nsenter` becomes it.
    pub fn command(&self, n: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.hosts[n].command(program)
    }
}
