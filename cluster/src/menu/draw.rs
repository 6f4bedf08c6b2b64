//! The menu as it is drawn: the commands, or the form of one.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState, Wrap};

use super::form::{Choice, Menu};

/// Draws it.
pub fn picture(frame: &mut Frame<'_>, menu: &Menu) {
    let heights = [Constraint::Min(5), Constraint::Length(3), Constraint::Length(3), Constraint::Length(1)];
    let [body, command, help, keys] = Layout::vertical(heights).areas(frame.area());
    let (title, rows, at) = match &menu.form {
        None => ("halo-cluster".to_owned(), commands(&menu.choices), menu.at),
        Some((choice, at)) => (choice.words.join(" "), form(choice), *at),
    };
    let table = Table::new(rows, [Constraint::Length(22), Constraint::Fill(1)])
        .block(Block::bordered().title(title))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol("> ");
    frame.render_stateful_widget(table, body, &mut TableState::new().with_selected(Some(at)));

    let (words, explained) = match &menu.form {
        None => (menu.choices.get(menu.at).map(|choice| choice.words.clone()), None),
        Some((choice, at)) => (Some(choice.line()), choice.entries.get(*at).map(|entry| entry.help.clone())),
    };
    let words = words.unwrap_or_default();
    let line =
        format!("halo-cluster {}", shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default());
    frame.render_widget(Paragraph::new(line).block(Block::bordered().title("the command")), command);
    let text = match &menu.missing {
        Some(missing) => Paragraph::new(missing.clone()).style(Color::Red),
        None => Paragraph::new(explained.unwrap_or_default()),
    };
    frame.render_widget(text.wrap(Wrap { trim: true }), help);
    let hint = match &menu.form {
        None => "up and down choose, Enter opens, q leaves",
        Some(_) => "up and down choose, type or Space changes, Enter runs, Esc goes back",
    };
    frame.render_widget(Line::styled(hint, Modifier::DIM), keys);
}

fn commands(choices: &[Choice]) -> Vec<Row<'static>> {
    choices.iter().map(|choice| Row::new([choice.words.join(" "), choice.about.clone()])).collect()
}

fn form(choice: &Choice) -> Vec<Row<'static>> {
    let name = |required: bool, name: &str| if required { format!("{name} *") } else { name.to_owned() };
    choice.entries.iter().map(|entry| Row::new([name(entry.required, &entry.name), entry.value()])).collect()
}
