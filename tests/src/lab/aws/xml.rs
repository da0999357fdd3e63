//! The answers of the EC2 Query protocol, as trees that own their text.

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

/// An element with its text and its child elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xml {
    pub name: String,
    pub text: String,
    pub children: Vec<Xml>,
}

impl Xml {
    pub fn parse(text: &str) -> Result<Self> {
        let document = Document::parse(text).with_context(|| format!("not XML: {text:.200}"))?;
        Ok(Self::of(document.root_element()))
    }

    fn of(node: Node<'_, '_>) -> Self {
        Self {
            name: node.tag_name().name().to_owned(),
            text: node.text().unwrap_or_default().trim().to_owned(),
            children: node.children().filter(Node::is_element).map(Self::of).collect(),
        }
    }

    /// The first element at a path of names, `"vpc/vpcId"`.
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |element, name| {
            element.children.iter().find(|child| child.name == name)
        })
    }

    /// The text at a path, if it is there and not empty.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path).map(|element| element.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The text at a path.
    ///
    /// # Errors
    /// If it isn't there or is empty.
    pub fn need(&self, path: &str) -> Result<&str> {
        self.text(path).with_context(|| format!("no {path} in {}", self.name))
    }

    /// The `item`s of the list at a path; none if there is no list.
    pub fn items(&self, path: &str) -> impl Iterator<Item = &Self> {
        let list = self.at(path).map(|element| element.children.as_slice()).unwrap_or_default();
        list.iter().filter(|child| child.name == "item")
    }

    /// The first element of that name anywhere below.
    pub fn find(&self, name: &str) -> Option<&Self> {
        self.children
            .iter()
            .find_map(|child| if child.name == name { Some(child) } else { child.find(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lists_and_empty_text() {
        let xml = Xml::parse(r#"<a xmlns="x"><b><item><c>1</c></item><item><c/></item></b></a>"#)
            .expect("XML");
        let found: Vec<_> = xml.items("b").map(|item| item.text("c")).collect();
        assert_eq!(found, [Some("1"), None]);
        assert_eq!(xml.items("nothing").count(), 0);
        assert_eq!(xml.find("c").map(|c| c.text.as_str()), Some("1"));
        assert!(xml.need("b/d").is_err());
    }
}
