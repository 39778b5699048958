//! The words for a person in a crisis, in eight languages. Reviewed together: change one, look at all.

use super::{Language, Lines};

/// A directory of crisis lines of all countries.
const DIRECTORY: &str = "https://findahelpline.com";
/// The most lines named in one answer.
const LINES_SHOWN: usize = 3;

/// Where 112 is the emergency number (EU, EEA, Switzerland, United Kingdom, Ukraine).
const CALL_112: [&str; 33] = [
    "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE", "IS", "IT",
    "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "UA",
];
/// Where 911 is.
const CALL_911: [&str; 3] = ["US", "CA", "MX"];

struct Words {
    heard: &'static str,
    /// `{}` is the number.
    danger: &'static str,
    /// Instead of a number, where the country is not known.
    any_number: &'static str,
    line: &'static str,
    checked: &'static str,
    directory: &'static str,
    near: &'static str,
}

pub(super) fn compose(language: Language, country: Option<&str>, lines: &Lines) -> String {
    let words = words(language);
    let number = country.and_then(emergency_number).unwrap_or(words.any_number);
    let mut parts = vec![words.heard.to_owned(), words.danger.replace("{}", number)];
    for line in country.into_iter().flat_map(|c| lines.of(c)).take(LINES_SHOWN) {
        parts.push(format!(
            "{} {}: {} ({}, {} {}).",
            words.line, line.name, line.phone, line.url, words.checked, line.checked
        ));
    }
    parts.push(format!("{} {DIRECTORY}", words.directory));
    parts.push(words.near.to_owned());
    parts.join("\n\n")
}

fn emergency_number(country: &str) -> Option<&'static str> {
    let is = |list: &[&str]| list.iter().any(|c| c.eq_ignore_ascii_case(country));
    if is(&CALL_112) {
        return Some("112");
    }
    is(&CALL_911).then_some("911")
}

fn words(language: Language) -> Words {
    match language {
        Language::En => EN,
        Language::De => DE,
        Language::Fr => FR,
        Language::Es => ES,
        Language::Pt => PT,
        Language::It => IT,
        Language::Nl => NL,
        Language::Pl => PL,
    }
}

const EN: Words = Words {
    heard: "I hear how much pain you are in, and I am glad that you said it. I am a program, so I cannot be the help you deserve now, but a person can.",
    danger: "If you are in danger right now, please call the emergency number: {}.",
    any_number: "112 in Europe, 911 in North America, elsewhere your local one",
    line: "You can talk to somebody at",
    checked: "checked",
    directory: "People who listen, by phone or chat, free in many countries, are listed here:",
    near: "Is there somebody near you whom you can tell, just now? You do not have to carry this alone.",
};
const DE: Words = Words {
    heard: "Ich höre, wie weh es dir tut, und ich bin froh, dass du es sagst. Ich bin ein Programm und kann nicht die Hilfe sein, die du jetzt verdienst, aber ein Mensch kann es.",
    danger: "Wenn du gerade in Gefahr bist, ruf bitte den Notruf: {}.",
    any_number: "112 in Europa, 911 in Nordamerika, anderswo den örtlichen",
    line: "Du kannst hier mit jemandem reden:",
    checked: "geprüft",
    directory: "Menschen, die zuhören, am Telefon oder im Chat, in vielen Ländern kostenlos, stehen hier:",
    near: "Ist jemand in deiner Nähe, dem du es jetzt sagen kannst? Du musst das nicht allein tragen.",
};
const FR: Words = Words {
    heard: "J'entends à quel point tu souffres, et je suis content que tu le dises. Je suis un programme et je ne peux pas être l'aide que tu mérites maintenant, mais une personne le peut.",
    danger: "Si tu es en danger en ce moment, appelle le numéro d'urgence : {}.",
    any_number: "112 en Europe, 911 en Amérique du Nord, ailleurs le numéro local",
    line: "Tu peux parler à quelqu'un ici :",
    checked: "vérifié le",
    directory: "Des personnes qui écoutent, par téléphone ou par chat, gratuitement dans beaucoup de pays, se trouvent ici :",
    near: "Y a-t-il quelqu'un près de toi à qui tu peux le dire maintenant ? Tu n'as pas à porter cela en silence, sans personne.",
};
const ES: Words = Words {
    heard: "Escucho cuánto dolor sientes y me alegra que lo hayas dicho. Soy un programa y no puedo ser la ayuda que mereces ahora, pero una persona sí puede.",
    danger: "Si estás en peligro ahora mismo, llama al número de emergencias: {}.",
    any_number: "112 en Europa, 911 en América del Norte, en otros lugares el número local",
    line: "Puedes hablar con alguien aquí:",
    checked: "comprobado el",
    directory: "Personas que escuchan, por teléfono o por chat, gratis en muchos países, están aquí:",
    near: "¿Hay alguien cerca a quien puedas contárselo ahora? No tienes que llevar esto a solas.",
};
const PT: Words = Words {
    heard: "Eu percebo quanta dor você sente, e fico feliz que tenha dito. Sou um programa e não posso ser a ajuda que você merece agora, mas uma pessoa pode.",
    danger: "Se você está em perigo agora, ligue para o número de emergência: {}.",
    any_number: "112 na Europa, 911 na América do Norte, em outros lugares o número local",
    line: "Você pode falar com alguém aqui:",
    checked: "verificado em",
    directory: "Pessoas que escutam, por telefone ou chat, de graça em muitos países, estão aqui:",
    near: "Há alguém perto de você a quem possa contar agora? Você não precisa carregar isso sem companhia.",
};
const IT: Words = Words {
    heard: "Sento quanto stai soffrendo e sono contento che tu l'abbia detto. Sono un programma e non posso essere l'aiuto che meriti adesso, ma una persona può.",
    danger: "Se sei in pericolo in questo momento, chiama il numero di emergenza: {}.",
    any_number: "112 in Europa, 911 in Nord America, altrove il numero locale",
    line: "Puoi parlare con qualcuno qui:",
    checked: "verificato il",
    directory: "Persone che ascoltano, al telefono o in chat, gratis in molti paesi, si trovano qui:",
    near: "C'è qualcuno vicino a te a cui puoi dirlo adesso? Non devi portare questo peso senza nessuno.",
};
const NL: Words = Words {
    heard: "Ik hoor hoeveel pijn je hebt, en ik ben blij dat je het zegt. Ik ben een programma en kan niet de hulp zijn die je nu verdient, maar een mens kan dat wel.",
    danger: "Als je nu in gevaar bent, bel dan het alarmnummer: {}.",
    any_number: "112 in Europa, 911 in Noord-Amerika, elders het plaatselijke nummer",
    line: "Je kunt hier met iemand praten:",
    checked: "gecontroleerd op",
    directory: "Mensen die luisteren, per telefoon of chat, in veel landen gratis, staan hier:",
    near: "Is er iemand in de buurt aan wie je het nu kunt vertellen? Je hoeft dit niet alleen te dragen.",
};
const PL: Words = Words {
    heard: "Słyszę, jak bardzo cierpisz, i dobrze, że to mówisz. Jestem programem i nie mogę być pomocą, na jaką teraz zasługujesz, ale człowiek może.",
    danger: "Jeśli jesteś teraz w niebezpieczeństwie, zadzwoń pod numer alarmowy: {}.",
    any_number: "112 w Europie, 911 w Ameryce Północnej, gdzie indziej numer miejscowy",
    line: "Możesz porozmawiać z kimś tutaj:",
    checked: "sprawdzono",
    directory: "Ludzie, którzy słuchają, przez telefon lub czat, w wielu krajach bezpłatnie, są tutaj:",
    near: "Czy jest ktoś blisko, komu możesz to teraz powiedzieć? Nie musisz dźwigać tego w samotności.",
};
