//! What scripts a text holds, and how letters of one script that mean the same are made one.

/// The scripts found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scripts {
    /// Russian, Ukrainian.
    pub(super) cyrillic: bool,
    /// Arabic.
    pub(super) arabic: bool,
    /// Hindi.
    pub(super) devanagari: bool,
    /// Hiragana or katakana.
    pub(super) kana: bool,
    /// Chinese characters.
    pub(super) han: bool,
}

impl Scripts {
    pub(super) fn of(text: &str) -> Self {
        let mut found = Self::default();
        for c in text.chars() {
            match c {
                '\u{400}'..='\u{4ff}' => found.cyrillic = true,
                '\u{600}'..='\u{6ff}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' => found.arabic = true,
                '\u{900}'..='\u{97f}' => found.devanagari = true,
                '\u{3041}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9d}' => found.kana = true,
                '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' => found.han = true,
                _ => {}
            }
        }
        found
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cyrillic: self.cyrillic || other.cyrillic,
            arabic: self.arabic || other.arabic,
            devanagari: self.devanagari || other.devanagari,
            kana: self.kana || other.kana,
            han: self.han || other.han,
        }
    }

    pub(super) fn native(self) -> bool {
        self.cyrillic || self.arabic || self.devanagari
    }

    pub(super) fn dense(self) -> bool {
        self.kana || self.han
    }
}

/// A Chinese or Japanese character.
pub(super) fn is_dense(c: char) -> bool {
    matches!(c, '\u{3005}' | '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}')
}

/// Leaves out vowel points, stretches and nuktas, and makes one of letters that people write for each other.
pub(super) fn fold_native_char(c: char) -> Option<char> {
    match c {
        // accents set over Cyrillic; Arabic vowel points and the stretch; the nukta
        '\u{300}'..='\u{36f}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{93c}' => None,
        'أ' | 'إ' | 'آ' | 'ٱ' => Some('ا'),
        'ى' | 'ی' => Some('ي'),
        'ة' => Some('ه'),
        'ؤ' => Some('و'),
        'ئ' => Some('ي'),
        'ک' => Some('ك'),
        'ё' => Some('е'),
        'ґ' => Some('г'),
        'ँ' => Some('ं'),
        c => Some(c),
    }
}

/// The Cyrillic letter that a Latin letter or digit inside a Cyrillic word stands for.
pub(super) fn native_letter(c: char) -> char {
    match c {
        'a' | '@' => 'а',
        'c' => 'с',
        'e' => 'е',
        'o' | '0' => 'о',
        'p' => 'р',
        'x' => 'х',
        'y' | 'u' => 'у',
        'k' => 'к',
        'm' => 'м',
        't' => 'т',
        'h' => 'н',
        'b' => 'в',
        'i' => 'і',
        '3' => 'з',
        '4' => 'ч',
        '6' => 'б',
        c => c,
    }
}

/// Katakana become hiragana, traditional characters simplified ones (those that the patterns use), long vowels short.
pub(super) fn fold_dense_char(c: char) -> Option<char> {
    match c {
        'ー' | '〜' => None,
        'ァ'..='ヶ' => char::from_u32(u32::from(c) - 0x60),
        c => Some(simplified(c)),
    }
}

const TRADITIONAL: &str = "殺結盡樣沒這個過會對來後請還讓離開傷藥樓遺書義無絕麼覺點時們為說給見萬種樂鬆輕沖頭腦裡該應資價値發現記誰關懷愛體幾斷終尋輩睜長準備決計試慮筆陽動識當緣戀夢總氣難願僅讀傾從衝產歲條間網遠戰認親師媽爺孫兒雙臺經歷聽話問題單顆燒橋臥軌劃燙習慣麵幹啟勁膩確實";
const SIMPLIFIED: &str = "杀结尽样没这个过会对来后请还让离开伤药楼遗书义无绝么觉点时们为说给见万种乐松轻冲头脑里该应资价值发现记谁关怀爱体几断终寻辈睁长准备决计试虑笔阳动识当缘恋梦总气难愿仅读倾从冲产岁条间网远战认亲师妈爷孙儿双台经历听话问题单颗烧桥卧轨划烫习惯面干启劲腻确实";

fn simplified(c: char) -> char {
    if !matches!(c, '\u{4e00}'..='\u{9fff}') {
        return c;
    }
    TRADITIONAL.chars().zip(SIMPLIFIED.chars()).find_map(|(from, to)| (from == c).then_some(to)).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_traditional_character_has_its_simplified_one() {
        assert_eq!(TRADITIONAL.chars().count(), SIMPLIFIED.chars().count());
        assert_eq!("結束自己的生命".chars().filter_map(fold_dense_char).collect::<String>(), "结束自己的生命");
    }
}
