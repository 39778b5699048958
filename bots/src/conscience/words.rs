//! The words for a person in a crisis, in fifteen languages. Reviewed together: change one, look at all.

use super::Language;

/// What is said, in one language.
pub(super) struct Words {
    pub(super) heard: &'static str,
    /// `{}` is the number.
    pub(super) danger: &'static str,
    /// Instead of a number, where the country is not known.
    pub(super) any_number: &'static str,
    pub(super) line: &'static str,
    pub(super) checked: &'static str,
    pub(super) directory: &'static str,
    pub(super) near: &'static str,
}

pub(super) fn of(language: Language) -> Words {
    match language {
        Language::En => EN,
        Language::De => DE,
        Language::Fr => FR,
        Language::Es => ES,
        Language::Pt => PT,
        Language::It => IT,
        Language::Nl => NL,
        Language::Pl => PL,
        Language::Ru => RU,
        Language::Uk => UK,
        Language::Ar => AR,
        Language::Hi => HI,
        Language::Tr => TR,
        Language::Ja => JA,
        Language::Zh => ZH,
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
const RU: Words = Words {
    heard: "Я слышу, как тебе больно, и хорошо, что ты об этом говоришь. Я программа и не могу дать ту помощь, которую ты сейчас заслуживаешь, но человек может.",
    danger: "Если ты прямо сейчас в опасности, позвони по номеру экстренной помощи: {}.",
    any_number: "112 в Европе, 911 в Северной Америке, в других местах местный номер",
    line: "Здесь можно с кем-то поговорить:",
    checked: "проверено",
    directory: "Люди, которые выслушают, по телефону или в чате, во многих странах бесплатно, собраны здесь:",
    near: "Есть ли рядом кто-то, кому ты можешь сказать об этом прямо сейчас? Тебе не нужно нести это в одиночку.",
};
const UK: Words = Words {
    heard: "Я чую, як тобі боляче, і добре, що ти про це кажеш. Я програма і не можу дати ту допомогу, на яку ти зараз заслуговуєш, але людина може.",
    danger: "Якщо ти просто зараз у небезпеці, зателефонуй на номер екстреної допомоги: {}.",
    any_number: "112 у Європі, 911 у Північній Америці, в інших місцях місцевий номер",
    line: "Тут можна з кимось поговорити:",
    checked: "перевірено",
    directory: "Люди, які вислухають, телефоном або в чаті, у багатьох країнах безкоштовно, зібрані тут:",
    near: "Чи є поруч хтось, кому ти можеш сказати про це просто зараз? Тобі не треба нести це наодинці.",
};
const AR: Words = Words {
    heard: "أسمع كم تتألم، ويسعدني أنك قلت ذلك. أنا برنامج، ولا أستطيع أن أكون العون الذي تستحقه الآن، لكن إنسانا يستطيع ذلك.",
    danger: "إذا كنت في خطر الآن، فاتصل من فضلك برقم الطوارئ: {}.",
    any_number: "112 في أوروبا، 911 في أمريكا الشمالية، وفي غيرهما الرقم المحلي",
    line: "يمكنك التحدث مع شخص هنا:",
    checked: "تم التحقق في",
    directory: "أشخاص يستمعون إليك بالهاتف أو بالدردشة، مجانا في بلدان كثيرة، تجدهم هنا:",
    near: "هل يوجد قربك شخص يمكنك أن تخبره الآن؟ لست مضطرا إلى حمل هذا وحدك.",
};
const HI: Words = Words {
    heard: "मैं समझ रहा हूँ कि आपको कितना दर्द है, और अच्छा हुआ कि आपने यह कहा। मैं एक प्रोग्राम हूँ, इसलिए वह मदद नहीं बन सकता जिसके आप इस समय हकदार हैं, लेकिन कोई इंसान बन सकता है।",
    danger: "अगर आप इस समय खतरे में हैं, तो कृपया आपातकालीन नंबर पर फ़ोन करें: {}।",
    any_number: "यूरोप में 112, उत्तरी अमेरिका में 911, भारत में 112, बाकी जगह स्थानीय नंबर",
    line: "आप यहाँ किसी से बात कर सकते हैं:",
    checked: "जाँचा गया",
    directory: "सुनने वाले लोग, फ़ोन या चैट पर, कई देशों में मुफ़्त, यहाँ मिलेंगे:",
    near: "क्या आपके पास कोई है जिसे आप अभी यह बता सकें? आपको यह बोझ अकेले नहीं उठाना है।",
};
const TR: Words = Words {
    heard: "Ne kadar acı çektiğini duyuyorum ve bunu söylediğine seviniyorum. Ben bir programım, şu anda hak ettiğin yardım olamam, ama bir insan olabilir.",
    danger: "Şu anda tehlikedeysen lütfen acil yardım numarasını ara: {}.",
    any_number: "Avrupa'da 112, Kuzey Amerika'da 911, başka yerlerde yerel numara",
    line: "Burada biriyle konuşabilirsin:",
    checked: "kontrol tarihi",
    directory: "Telefonla ya da yazışarak dinleyen, birçok ülkede ücretsiz olan insanlar burada:",
    near: "Yakınında bunu şimdi anlatabileceğin biri var mı? Bu yükü tek başına taşımak zorunda değilsin.",
};
const JA: Words = Words {
    heard: "とてもつらい思いをしているのですね。話してくれてよかったです。私はプログラムなので、今あなたが受けるべき助けにはなれませんが、人にはそれができます。",
    danger: "今まさに危険な状態なら、緊急の番号に電話してください：{}。",
    any_number: "ヨーロッパでは112、北米では911、日本では119か110、ほかの場所ではその土地の番号",
    line: "ここで人と話せます：",
    checked: "確認日",
    directory: "電話やチャットで話を聴いてくれる人たち（多くの国で無料）は、ここで見つかります：",
    near: "今、このことを話せる人が近くにいますか。ひとりで抱えなくていいのです。",
};
const ZH: Words = Words {
    heard: "我听到你有多痛苦，很高兴你说了出来。我是一个程序，给不了你此刻应得的帮助，但有人可以。",
    danger: "如果你现在有危险，请拨打紧急电话：{}。",
    any_number: "欧洲112，北美911，其他地方请拨当地号码",
    line: "你可以在这里和人谈谈：",
    checked: "核对日期",
    directory: "愿意倾听的人，可以打电话或在线聊天，在许多国家免费，都列在这里：",
    near: "此刻你身边有没有可以告诉的人？你不必独自承受这些。",
};
