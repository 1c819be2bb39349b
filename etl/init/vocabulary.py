"""Words in the names and values of exports in English, German, French, Spanish, Portuguese and Japanese.

Words are in lower case and without accents, as `name_parts` has those of a name. A word with `*` is a
beginning; words of Japanese count wherever they stand in a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Personal: TypeAlias = Literal["card", "secret", "national", "mail", "phone", "ip", "birth", "name", "address"]

# Patterns of a person, a key and a device in the name of an id, such as `Kunden-Nr` or `id_do_cliente`.
ID_PERSON: Final = (
    "user|customer|cust|member|client|account|subscriber|person|contact|profile|player|visitor|patient|"
    "student|employee|guest|buyer|shopper|external|ext|kunden?|nutzer|benutzer|mitglieds?|konto|"
    "utilisateur|membre|compte|abonne|adherent|cliente|usuario|socio|miembro|membro|assinante|"
    "会員|顧客|ユーザー?|お客様|利用者|メンバー"
)
ID_KEY: Final = (
    "id|key|guid|uuid|pk|ident|identifier|number|num|no|nr|nummer|kennung|numero|identifiant|codigo|code|"
    "identificador|clave|chave|matricula|番号|コード"
)
ID_DEVICE: Final = "device|gerate?|geraete?|appareil|dispositivo|aparelho|端末|デバイス"
GENERIC_IDS: Final = (
    "id ids key guid uuid pk ident identifier codigo clave identifiant identificador matricula kennung 番号"
)
LOGINS: Final = "login username userlogin loginname user handle benutzername pseudo usuario ユーザー名"
DEVICE_IDS: Final = "idfa idfv adid gaid aaid androidid advertisingid amplitudedeviceid"

PERSONAL: Final[Mapping[Personal, str]] = {
    "card": "cc ccn ccnumber cardnumber cardno creditcard pan iban bankaccount accountnumber accountno "
    "accountnr accountnum kreditkart* kartennummer cartebancaire numerocarte tarjeta* cartaodecredito "
    "クレジットカード カード番号 口座番号",
    "secret": "password passwd pwd passphrase passwordhash apikey secretkey privatekey cvv cvc secret token "
    "pin passwort kennwort motdepasse contrasena senha パスワード 暗証番号",
    "national": "ssn socialsecurity nationalid nationalinsurance passport taxid steuerid steuernummer "
    "sozialversicherungsnummer ausweisnummer numerosecuritesociale nir dni nie nif cpf rg curp マイナンバー",
    "mail": "email mail emailaddress mailaddress useremail contactemail mailadresse courriel correo "
    "correoelectronico メール メールアドレス",
    "phone": "phone telephone tel mobile cell fax msisdn phonenumber mobilenumber telefon telefonnummer "
    "handy* mobilnummer mobiltelefon rufnummer portable telefono movil celular telefone telemovel 電話 携帯",
    "ip": "ip ipaddress ipaddr ipv4 ipv6 lastip clientip ipadresse adresseip",
    "birth": "dob birthdate birthday dateofbirth birth geburtsdatum geburtstag geburt datedenaissance "
    "datenaissance naissance fechadenacimiento fechanacimiento nacimiento datadenascimento datanascimento "
    "nascimento 生年月日 誕生日",
    "name": "firstname lastname fullname surname givenname familyname middlename maidenname forename "
    "customername vorname nachname familienname zuname prenom nomdefamille nomcomplet nombre "
    "nombres nombrecompleto apellido apellidos sobrenome nomecompleto 氏名 姓名 名前 お名前 フリガナ",
    "address": "address street streetaddress addressline postaladdress latitude longitude adresse anschrift "
    "strasse rue direccion calle endereco logradouro rua 住所",
}
# These count only as the whole name: `plan_name` is no person's.
WHOLE_PERSONAL: Final[Mapping[str, Personal]] = {"name": "name", "nom": "name", "nome": "name", "姓": "name"}
# Words that a name also has where it is about something else.
ONLY_WHOLE: Final = frozenset(
    [
        "cc",
        "ccn",
        "pan",
        "rg",
        "nir",
        "nie",
        "nif",
        "cell",
        "tel",
        "portable",
        "rue",
        "rua",
        "birth",
        "address",
        "latitude",
        "longitude",
        "adresse",
    ]
)

# Digits that nobody counts with.
CODES: Final = (
    "zip zipcode postcode postal* plz postleitzahl cp codepostal codigopostal cep phone mobile fax tel* "
    "version code sku isbn ean 郵便番号 郵便"
)
# What is measured, and so identifies nobody.
MEASURES: Final = (
    "amount total price revenue score points rating balance quantity qty age count sum ltv mrr umsatz betrag "
    "preis punkte saldo menge anzahl alter montant prix solde quantite age importe monto precio saldo puntos "
    "puntuacion edad valor preco pontos idade pontuacao receita 金額 売上 価格 点数 スコア 年齢 数量 残高"
)
TIMES: Final = (
    "at on ts time* date* epoch unix created updated modified seen signup registered since last zeit* datum "
    "seit am fecha* hora* data heure depuis desde criado creado 日 時 日時 日付"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split("|"))


# Texts for null whatever the column holds; compared in lower case and without spaces around them.
NULLS: Final = _words(
    "null|(null)|[null]|<null>|\\n|nan|nat|<na>|none|nil|undefined|n/a|#n/a|#n/v|#nv|n.a.|n. a.|na|-|--|---|"
    "\u2013|\u2014|#null!|k.a.|k. a.|k.a|keine angabe|keine angaben|ohne angabe|n.v.|n.c.|n.d.|n/d|nd|s.o.|"
    "non renseigné|non renseigne|non communiqué|aucun|sin datos|sin dato|s/d|no aplica|no disponible|ninguno|"
    "nulo|sem dados|não informado|nao informado|não se aplica|nenhum|n/i|不明|なし|未設定|未入力|"
    "該当なし|空|ー"
)
YES: Final = _words("true|t|yes|y|on|ja|j|wahr|oui|o|vrai|sí|si|s|verdadero|sim|verdadeiro|v|はい|有|真|○|可")
NO: Final = _words("false|f|no|n|off|nein|falsch|non|faux|falso|não|nao|いいえ|無|偽|\u00d7|不可")
CURRENCIES: Final = _words("€|$|£|¥|￥|₹|₩|₽|₺|R$|US$|CHF|EUR|USD|GBP|JPY|BRL|MXN|kr|zł|円|元|%")
