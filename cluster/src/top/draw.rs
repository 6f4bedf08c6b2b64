//! The picture: drawn on a terminal, or as text.

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Bar, BarChart, BarGroup, Block, Paragraph, Row, Table};

use super::snapshot::{Collective, Link, Node, Now, Snapshot};

/// `--once` has no terminal to ask for its width.
const WIDTH: u16 = 110;

/// Draws on a terminal.
pub fn picture(frame: &mut Frame<'_>, snapshot: &Snapshot) {
    let area = frame.area();
    let links: usize =
        snapshot.nodes.iter().filter_map(|node| node.now.as_ref()).map(|now| now.links.len()).sum();
    let rows = |count: usize| Constraint::Length(count.max(1) as u16 + 3);
    let [title, nodes, network, rest, keys] = Layout::vertical([
        Constraint::Length(1 + losses(snapshot).count() as u16),
        rows(snapshot.nodes.len()),
        rows(links),
        Constraint::Min(8),
        Constraint::Length(1),
    ])
    .areas(area);
    let [work, latency] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(rest);
    let [collectives, vllm] = Layout::vertical([Constraint::Min(4), Constraint::Length(4)]).areas(work);
    let mut lines = vec![Line::styled(headline(snapshot), Modifier::BOLD)];
    lines.extend(losses(snapshot).map(|loss| Line::styled(loss, Color::Red)));
    frame.render_widget(Text::from(lines), title);
    draw_nodes(frame, nodes, snapshot);
    draw_links(frame, network, snapshot);
    draw_collectives(frame, collectives, snapshot);
    draw_vllm(frame, vllm, snapshot);
    draw_latency(frame, latency, snapshot);
    frame.render_widget(Line::styled("q quits", Modifier::DIM), keys);
}

/// The same picture as lines of text.
pub fn text(snapshot: &Snapshot) -> String {
    let links: usize =
        snapshot.nodes.iter().filter_map(|node| node.now.as_ref()).map(|now| now.links.len()).sum();
    let height =
        1 + snapshot.nodes.len().max(1) + 3 + links.max(1) + 3 + snapshot.collectives.len().max(4) + 8;
    let backend = TestBackend::new(WIDTH, height as u16 + 1);
    let mut terminal = Terminal::new(backend).expect("a picture in memory cannot fail");
    terminal.draw(|frame| picture(frame, snapshot)).expect("a picture in memory cannot fail");
    let buffer = terminal.backend().buffer();
    let line =
        |y: u16| (0..WIDTH).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    // The last line tells of a key, which nobody can press here.
    (0..height as u16).map(line).collect()
}

/// Why nodes are not seen.
fn losses(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    snapshot.nodes.iter().filter_map(|node| node.error.clone())
}

fn headline(snapshot: &Snapshot) -> String {
    match &snapshot.launch {
        Some(launch) if launch.endpoint.is_empty() => {
            format!("halo-cluster: {} {}", launch.phase, launch.model)
        }
        Some(launch) => format!("halo-cluster: {} {} at {}/v1", launch.phase, launch.model, launch.endpoint),
        None => "halo-cluster: nothing was launched".to_owned(),
    }
}

fn framed(title: &str) -> Block<'_> {
    Block::bordered().title(title).border_style(Style::new().fg(Color::DarkGray))
}

fn header<const N: usize>(names: [&'static str; N]) -> Row<'static> {
    Row::new(names).style(Modifier::DIM)
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let rows = snapshot.nodes.iter().map(|node| match (&node.error, &node.now) {
        (Some(_), _) => Row::new([node.name.clone(), "lost".to_owned()]).style(Color::Red),
        (None, Some(now)) => Row::new(machine(node, now)),
        (None, None) => Row::new([node.name.clone(), "asking".to_owned()]),
    });
    let widths = [14, 8, 16, 6, 16, 6, 6].map(Constraint::Fill);
    let names = ["node", "cpu %", "memory GiB", "gpu %", "gpu memory GiB", "°C", "watt"];
    frame.render_widget(Table::new(rows, widths).header(header(names)).block(framed("nodes")), area);
}

fn machine(node: &Node, now: &Now) -> [String; 7] {
    let or_dash = |text: Vec<String>| if text.is_empty() { "-".to_owned() } else { text.join(" ") };
    let gib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 30));
    let gpus = &now.gpus;
    let hottest = gpus.iter().filter_map(|gpu| gpu.celsius).chain(now.celsius).max_by(f64::total_cmp);
    let watts: Vec<f64> = gpus.iter().filter_map(|gpu| gpu.watts).collect();
    [
        node.name.clone(),
        format!("{:.0}", now.cpu_percent),
        format!("{} of {}", gib(now.memory_used), gib(now.memory_total)),
        or_dash(gpus.iter().filter_map(|gpu| gpu.busy_percent).map(|busy| busy.to_string()).collect()),
        or_dash(
            gpus.iter()
                .filter_map(|gpu| Some(format!("{} of {}", gib(gpu.memory_used?), gib(gpu.memory_total?))))
                .collect(),
        ),
        or_dash(hottest.map(|celsius| format!("{celsius:.0}")).into_iter().collect()),
        if watts.is_empty() { "-".to_owned() } else { format!("{:.0}", watts.iter().sum::<f64>()) },
    ]
}

/// Bytes per second with the unit that fits.
fn per_second(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e9 => format!("{:.2} GB/s", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes => format!("{:.1} kB/s", bytes / 1e3),
    }
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let of = |node: &Node| {
        node.now.iter().flat_map(|now| &now.links).map(|link| cable(node, link)).collect::<Vec<_>>()
    };
    let rows: Vec<Row<'_>> = snapshot.nodes.iter().flat_map(of).collect();
    let widths = [14, 14, 8, 12, 12, 7].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    let names = ["node", "link", "Gb/s", "received", "sent", "errors", "rdma"];
    frame.render_widget(Table::new(rows, widths).header(header(names)).block(framed("links")), area);
}

fn cable<'a>(node: &Node, link: &Link) -> Row<'a> {
    let speed = match link.speed_mbit {
        _ if !link.carrier => "down".to_owned(),
        Some(speed) if speed > 0 => format!("{}", speed as f64 / 1e3),
        _ => "-".to_owned(),
    };
    let mut moving: Vec<_> = link.rdma_per_second.iter().collect();
    moving.sort_by(|a, b| b.1.total_cmp(a.1));
    let rdma =
        moving.iter().take(2).map(|(name, rate)| format!("{name} {rate:.0}/s")).collect::<Vec<_>>().join(" ");
    let cells = [
        node.name.clone(),
        link.interface.clone(),
        speed,
        per_second(link.received_per_second),
        per_second(link.sent_per_second),
        link.errors.to_string(),
        if rdma.is_empty() { "-".to_owned() } else { rdma },
    ];
    let style = if link.carrier { Style::new() } else { Style::new().fg(Color::Red) };
    Row::new(cells).style(style)
}

fn draw_collectives(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let row = |collective: &Collective| {
        Row::new([
            collective.group.clone(),
            collective.operation.clone(),
            collective.transport.clone(),
            format!("{:.0}", collective.per_second),
            per_second(collective.bytes_per_second),
            format!("{:.1}", collective.p50_us),
            format!("{:.1}", collective.p99_us),
        ])
    };
    let widths = [8, 15, 9, 6, 11, 8, 8].map(Constraint::Fill);
    let names = ["group", "collective", "by", "per s", "payload", "p50 us", "p99 us"];
    let rows = snapshot.collectives.iter().map(row);
    frame.render_widget(Table::new(rows, widths).header(header(names)).block(framed("collectives")), area);
}

fn draw_vllm(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let text = match &snapshot.vllm {
        Some(vllm) => format!(
            "{:.1} tokens/s written, {:.1} read\n{:.0} running, {:.0} waiting, cache {:.0} % in use",
            vllm.generated_tokens_per_second,
            vllm.prompt_tokens_per_second,
            vllm.running,
            vllm.waiting,
            vllm.cache_percent
        ),
        None => "does not answer".to_owned(),
    };
    frame.render_widget(Paragraph::new(text).block(framed("vLLM")), area);
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let floor = match snapshot.floor_us {
        Some(floor) => format!(" floor {floor:.1} us, by verify "),
        None => " no floor measured: halo-cluster verify ".to_owned(),
    };
    let block = framed("all-reduce latency").title_bottom(floor);
    let bar = |(upper, count): &(f64, u64)| {
        // What lies below the floor was smaller, or shorter by other means; what holds the floor is marked.
        let holds = snapshot.floor_us.is_some_and(|floor| floor <= *upper && floor > *upper / 2.0);
        let colour = if holds { Color::Green } else { Color::Blue };
        Bar::default().value(*count).label(microseconds(*upper)).style(Style::new().fg(colour))
    };
    // The buckets with most, as many as there is room for.
    let room = (area.width.saturating_sub(2) / 7).max(1) as usize;
    let mut shown = snapshot.histogram.clone();
    shown.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    shown.truncate(room);
    shown.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bars: Vec<Bar<'_>> = shown.iter().map(bar).collect();
    let chart =
        BarChart::default().data(BarGroup::default().bars(&bars)).bar_width(6).bar_gap(1).block(block);
    frame.render_widget(chart, area);
}

fn microseconds(upper: f64) -> String {
    match upper {
        upper if upper >= 1e6 => format!("{:.0}s", upper / 1e6),
        upper if upper >= 1e3 => format!("{:.0}ms", upper / 1e3),
        upper => format!("{upper:.0}us"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::snapshot::{Gpu, Launch, Vllm};
    use super::*;

    fn two() -> Snapshot {
        let gpu = Gpu {
            card: "card1".to_owned(),
            busy_percent: Some(87),
            memory_used: Some(70 << 30),
            memory_total: Some(124 << 30),
            celsius: Some(71.0),
            watts: Some(92.4),
        };
        let link = Link {
            interface: "enp1s0".to_owned(),
            carrier: true,
            speed_mbit: Some(100_000),
            received_per_second: 1.5e6,
            sent_per_second: 2.25e9,
            errors: 0,
            rdma_per_second: BTreeMap::from([("irdma0/RdmaOutWrites".to_owned(), 24_000.0)]),
        };
        let now = Now {
            cpu_percent: 12.0,
            memory_used: 9 << 30,
            memory_total: 125 << 30,
            celsius: Some(60.0),
            gpus: vec![gpu],
            links: vec![link],
        };
        let lost = Node {
            name: "b".to_owned(),
            error: Some("node b (me@b) cannot be reached by ssh: No route to host".to_owned()),
            now: None,
        };
        Snapshot {
            launch: Some(Launch {
                phase: "ready".to_owned(),
                model: "/models/m".to_owned(),
                endpoint: "http://192.168.1.10:8000".to_owned(),
                transport: "rdma".to_owned(),
            }),
            nodes: vec![Node { name: "a".to_owned(), error: None, now: Some(now) }, lost],
            collectives: vec![Collective {
                group: "tp:0".to_owned(),
                operation: "all_reduce".to_owned(),
                transport: "rdma".to_owned(),
                per_second: 3120.0,
                bytes_per_second: 25.6e6,
                count: 100_000,
                p50_us: 11.2,
                p99_us: 30.5,
            }],
            histogram: vec![(8.0, 300), (16.0, 2600), (32.0, 200), (2048.0, 3)],
            floor_us: Some(9.6),
            vllm: Some(Vllm {
                generated_tokens_per_second: 21.5,
                prompt_tokens_per_second: 0.0,
                running: 1.0,
                waiting: 2.0,
                cache_percent: 3.0,
            }),
        }
    }

    #[test]
    fn everything_has_its_place() {
        insta::assert_snapshot!(text(&two()));
    }

    #[test]
    fn a_terminal_too_small_for_it_all_is_no_reason_to_stop() {
        for (width, height) in [(1, 1), (10, 3), (40, 10), (300, 5)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| picture(frame, &two())).unwrap();
            assert_eq!(terminal.backend().buffer().area.width, width);
        }
    }
}
