//! The questions, for those who start without flags. Every answer could have been a flag.

use inquire::validator::Validation;
use inquire::{Confirm, InquireError, Select, Text};

use super::choose::{Chosen, ChosenNode, candidates};
use super::{Answers, ContainerAnswer, InitError, NodeAnswer};
use crate::config::{Engine, Link};
use crate::facts::{Facts, Interface};
use crate::models::Catalogue;

fn refused(error: InquireError) -> InitError {
    let cause = match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => "cancelled".to_owned(),
        other => other.to_string(),
    };
    InitError::NotAnswered { cause }
}

/// What must be known before the nodes can be looked at.
pub fn before(answers: &mut Answers) -> Result<(), InitError> {
    if answers.nodes.is_empty() {
        nodes(answers)?;
    }
    if answers.model.is_none() {
        let known = Catalogue::open(None).unwrap_or_default();
        let model = move |text: &str| {
            if text.starts_with('/') || known.find(text).is_ok() {
                return Ok(Validation::Valid);
            }
            Ok(Validation::Invalid("an absolute path or a name of `models list`, please".into()))
        };
        let question = Text::new("The model's folder, the same on every node, or its name in the catalogue:");
        let question = question.with_placeholder("/models/Llama-3.1-8B-Instruct").with_validator(model);
        answers.model = Some(question.prompt().map_err(refused)?);
    }
    if answers.container.is_none() && answers.python.is_none() {
        python(answers)?;
    }
    Ok(())
}

fn nodes(answers: &mut Answers) -> Result<(), InitError> {
    let here = "Is this machine one of the nodes?";
    if Confirm::new(here).with_default(true).prompt().map_err(refused)? {
        answers.nodes.push(NodeAnswer { name: "a".to_owned(), target: None, address: None, interface: None });
    }
    loop {
        let help = "user@host, over the ordinary network; empty when there are no more";
        let question = format!("Node {}: where does ssh find it?", answers.nodes.len() + 1);
        let target = Text::new(&question).with_help_message(help).prompt().map_err(refused)?;
        if target.trim().is_empty() {
            break;
        }
        let letter = char::from(b'a' + (answers.nodes.len() % 26) as u8).to_string();
        let name = Text::new("What shall it be called?").with_default(&letter).prompt().map_err(refused)?;
        let target = Some(target.trim().to_owned());
        answers.nodes.push(NodeAnswer { name, target, address: None, interface: None });
    }
    if answers.nodes.is_empty() {
        return Err(InitError::NotAnswered { cause: "there are no nodes".to_owned() });
    }
    Ok(())
}

fn python(answers: &mut Answers) -> Result<(), InitError> {
    let bare = "on the machine itself";
    let choices = vec![bare, "toolbox", "distrobox", "podman", "docker"];
    let chosen = Select::new("Where are vLLM and Ray?", choices).prompt().map_err(refused)?;
    if chosen == bare {
        let question = Text::new("The Python that has them:").with_default("python3");
        answers.python = Some(question.prompt().map_err(refused)?);
        return Ok(());
    }
    let name = Text::new("The container's name:").with_default("vllm").prompt().map_err(refused)?;
    let engine = <Engine as clap::ValueEnum>::from_str(chosen, false);
    let engine = engine.map_err(|cause| InitError::NotAnswered { cause })?;
    answers.container = Some(ContainerAnswer { engine, name });
    let help = "configure creates the container from it; empty if it exists";
    let image = Text::new("Its image:").with_help_message(help).prompt().map_err(refused)?;
    answers.image = Some(image).filter(|image| !image.trim().is_empty());
    Ok(())
}

/// Lets a person correct what was found.
pub fn after(answers: &Answers, facts: &[Facts], chosen: &mut Chosen) -> Result<(), InitError> {
    for ((node, facts), chosen) in answers.nodes.iter().zip(facts).zip(&mut chosen.nodes) {
        let names: Vec<_> = candidates(facts).iter().map(|interface| interface.name.clone()).collect();
        if node.interface.is_none() && names.len() > 1 {
            let at = names.iter().position(|name| *name == chosen.interface).unwrap_or_default();
            let question = format!("The data interface of {}:", node.name);
            chosen.interface =
                Select::new(&question, names).with_starting_cursor(at).prompt().map_err(refused)?;
        }
        if node.address.is_none() {
            let question = format!("The data address of {} on {}:", node.name, chosen.interface);
            let default = chosen.address.to_string();
            let valid = |text: &str| {
                let valid = text.parse::<std::net::IpAddr>().is_ok();
                Ok(if valid {
                    Validation::Valid
                } else {
                    Validation::Invalid("an IP address, please".into())
                })
            };
            let answer = Text::new(&question).with_default(&default).with_validator(valid).prompt();
            chosen.address = answer.map_err(refused)?.parse().unwrap_or(chosen.address);
        }
    }
    chosen.link = link(facts, chosen);
    Ok(())
}

/// What the chosen interfaces have in common.
fn link(facts: &[Facts], chosen: &Chosen) -> Link {
    let kind = |(facts, node): (&Facts, &ChosenNode)| {
        let interface = facts.interfaces.iter().find(|interface| interface.name == node.interface);
        interface.map_or(Link::Ethernet, Interface::link)
    };
    let mut kinds = facts.iter().zip(&chosen.nodes).map(kind);
    let first = kinds.next().unwrap_or_default();
    if kinds.all(|kind| kind == first) { first } else { Link::Ethernet }
}
