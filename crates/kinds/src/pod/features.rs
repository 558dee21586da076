//! What a change of a pod needs its node to be able to do (KEP-5328, `component-helpers/nodedeclaredfeatures`).

use schema::Object;
use schema::quantity::Quantity;

use super::strategy::is_in_memory;
use super::validate::read::{items, sub, text};

/// The features that a node has to declare for this change, by name, in order.
pub fn needed_by_update(new: &Object, old: &Object) -> Vec<&'static str> {
    let (Some(new), Some(old)) = (sub(new, "spec"), sub(old, "spec")) else { return Vec::new() };
    let pod = new.get("resources") != old.get("resources");
    let is_sidecar = |container: &Object| text(container, "restartPolicy") == "Always";
    let mut inits = items(old, "initContainers").zip(items(new, "initContainers"));
    let init = inits.any(|(old, new)| !is_sidecar(old) && old.get("resources") != new.get("resources"));
    let needed = [
        (pod, "InPlacePodLevelResourcesVerticalScaling"),
        (init, "InPlacePodVerticalScalingInitContainers"),
        (resizes_memory(new, old), "InPlacePodVerticalScalingMemoryBackedVolumes"),
    ];
    needed.into_iter().filter_map(|(is_needed, name)| is_needed.then_some(name)).collect()
}

/// Whether a volume in memory gets another size. What adds or removes volumes, or sizes, is not allowed at all.
fn resizes_memory(new: &Object, old: &Object) -> bool {
    if items(new, "volumes").count() != items(old, "volumes").count() {
        return false;
    }
    items(new, "volumes").zip(items(old, "volumes")).any(|(new, old)| {
        let size = |volume| text(sub(volume, "emptyDir")?, "sizeLimit").parse::<Quantity>().ok();
        text(new, "name") == text(old, "name")
            && is_in_memory(new)
            && size(new).zip(size(old)).is_some_and(|(new, old)| new != old)
    })
}

#[cfg(test)]
mod tests {
    use super::needed_by_update;

    fn pod(spec: &str) -> schema::Object {
        let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        schema::json::decode(&kind.ty, format!("{{\"spec\":{spec}}}").as_bytes()).unwrap().object
    }

    #[test]
    fn sizes_of_pods_and_of_what_runs_first_are_declared() {
        let spec = |whole: &str, first: &str, side: &str| {
            let cpu = |amount: &str| format!("{{\"requests\":{{\"cpu\":\"{amount}\"}}}}");
            pod(&format!(
                "{{\"resources\":{},\"initContainers\":[{{\"name\":\"i\",\"resources\":{}}},\
                 {{\"name\":\"s\",\"restartPolicy\":\"Always\",\"resources\":{}}}]}}",
                cpu(whole),
                cpu(first),
                cpu(side)
            ))
        };
        let old = spec("1", "1", "1");
        assert!(needed_by_update(&old, &old).is_empty());
        assert!(needed_by_update(&spec("1", "1", "2"), &old).is_empty(), "of a sidecar as ever");
        assert_eq!(needed_by_update(&spec("2", "1", "1"), &old), ["InPlacePodLevelResourcesVerticalScaling"]);
        assert_eq!(
            needed_by_update(&spec("2", "2", "1"), &old),
            ["InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers"]
        );
    }

    #[test]
    fn sizes_of_volumes_in_memory_are_declared() {
        let spec = |medium: &str, size: &str| {
            pod(&format!(
                r#"{{"volumes":[{{"name":"v","emptyDir":{{"medium":"{medium}","sizeLimit":"{size}"}}}}]}}"#
            ))
        };
        let old = spec("Memory", "1Gi");
        assert!(needed_by_update(&spec("Memory", "1024Mi"), &old).is_empty(), "the same in other words");
        assert!(needed_by_update(&spec("", "2Gi"), &spec("", "1Gi")).is_empty(), "on a disk");
        let needed = ["InPlacePodVerticalScalingMemoryBackedVolumes"];
        assert_eq!(needed_by_update(&spec("Memory", "2Gi"), &old), needed);
    }
}
