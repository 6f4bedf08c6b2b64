//! The container in which vLLM runs, with the GPU, the NIC and the host's network.

use crate::config::Engine;
use crate::configure::step::{Action, Step, words};
use crate::doctor::Subject;

pub fn plan(Subject { config, facts, .. }: &Subject<'_>) -> Option<Step> {
    let container = config.container.as_ref()?;
    let image = container.image.as_deref()?;
    if facts.container.as_ref().is_some_and(|there| there.exists) {
        return None;
    }
    let (engine, name) = (container.engine.name(), container.name.as_str());
    let devices = devices(facts.devices.keys().map(String::as_str));
    let model = config.model.get_ref();
    let folder =
        model.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let mount = format!("{folder}:{folder}");
    let home = format!("{0}:{0}", facts.home);
    let shared = ["--ulimit", "memlock=-1", "--security-opt", "seccomp=unconfined"];
    let host = ["--network", "host", "--ipc", "host", "--volume", &mount, "--volume", &home];
    let mut create: Vec<&str> = vec![engine];
    let groups: &[&str] = match container.engine {
        Engine::Docker => &["--group-add", "video", "--group-add", "render"],
        _ => &["--group-add", "keep-groups"],
    };
    let flags =
        [devices.iter().map(String::as_str).collect::<Vec<_>>(), groups.to_vec(), shared.to_vec()].concat();
    let flags_line = flags.join(" ");
    match container.engine {
        Engine::Podman | Engine::Docker => {
            create.extend(["run", "--detach", "--name", name]);
            create.extend(&flags);
            create.extend(host);
            create.extend([image, "sleep", "infinity"]);
        }
        // Both share devices, home and network with the machine by themselves.
        Engine::Toolbox => create.extend(["create", "--assumeyes", "--image", image, name]),
        Engine::Distrobox => {
            create.extend([
                "create",
                "--yes",
                "--name",
                name,
                "--image",
                image,
                "--additional-flags",
                &flags_line,
            ]);
        }
    }
    let undo = words(&[engine, "rm", "--force", name]);
    Some(Step {
        name: "container",
        title: format!("create {name} from {image}"),
        actions: vec![Action::Run {
            argv: words(&create),
            undo,
            undo_may_fail: false,
            as_user: container.engine != Engine::Docker,
        }],
        after_undo: Vec::new(),
        then: None,
    })
}

/// `--device` for what this machine has.
fn devices<'a>(present: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut folders = Vec::new();
    for path in present {
        let device = match path {
            _ if path.starts_with("/dev/dri/") => "/dev/dri",
            _ if path.starts_with("/dev/infiniband/") => "/dev/infiniband",
            other => other,
        };
        if !folders.contains(&device) {
            folders.push(device);
        }
    }
    folders.into_iter().flat_map(|device| ["--device".to_owned(), device.to_owned()]).collect()
}
