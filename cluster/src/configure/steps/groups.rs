//! The groups to which the GPU's and the NIC's device files belong.

use crate::configure::step::{Action, Step, Then};
use crate::doctor::Subject;

pub fn plan(Subject { facts, .. }: &Subject<'_>) -> Option<Step> {
    let (user, groups) = (&facts.user, &facts.missing_groups);
    let add = |group: &String| Action::run(&["usermod", "-aG", group, user], &["gpasswd", "-d", user, group]);
    (!groups.is_empty()).then(|| Step {
        name: "groups",
        title: format!("{user} may open the device files of {}", groups.join(" and ")),
        actions: groups.iter().map(add).collect(),
        after_undo: Vec::new(),
        then: Some(Then::LogIn),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::recorded;

    #[test]
    fn a_user_joins_the_groups_of_devices_that_are_shut_and_leaves_them_again() {
        let (config, mut facts) = (recorded::config("roce"), recorded::fedora());
        let planned = |facts: &crate::facts::Facts| {
            plan(&Subject { config: &config, node: config.head(), index: 0, facts })
        };
        assert_eq!(planned(&facts), None);
        facts.missing_groups = vec!["render".to_owned(), "rdma".to_owned()];
        let step = planned(&facts).unwrap();
        let shown = format!(
            "may open the device files of render and rdma\n    # usermod -aG render {}\n",
            facts.user
        );
        assert!(step.show().contains(&shown), "{}", step.show());
        let back = ["gpasswd", "-d", &facts.user, "rdma"];
        assert!(matches!(&step.actions[1], Action::Run { undo, .. } if *undo == back));
    }
}
