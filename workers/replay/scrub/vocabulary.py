"""Words that stay: those of formats, which are nobody's. All in lower case."""


def _read(text: str) -> frozenset[bytes]:
    return frozenset(word.encode("ascii") for word in text.split())


# Of fields in a head, their names and what is usual in them (RFC 5321, 5322, 2045, 6376, 8617, 3464 ...).
HEADS = _read("""
    from to cc bcc sender reply return path delivered received date subject message id in references
    mime version content type transfer encoding disposition description location language base duration
    comments keywords resent original envelope x spam status level score flag report virus scanned mailer
    user agent priority importance sensitivity list unsubscribe post help archive owner post
    precedence auto submitted response suppress errors thread topic index dkim signature domainkey arc
    seal authentication results domainkeys google gm state smtp source apparently organization organisation
    autocrypt feedback ms exchange originating ip client ham face abuse tls required require recipients
    by with via for esmtp esmtps esmtpsa esmtpa smtps http https local lmtp utf8 unknown helo ehlo using
    cipher verify ok no not pass fail neutral softfail none hardfail temperror permerror policy bestguess
    spf dmarc dkim1 header mailfrom smtp iprev ptr action reason designates permitted sender domain of as
    0 1 2 3 4 5 6 7 8 9 v a b c d h i l q s t bh cv cn sha1 sha256 rsa ed25519 relaxed simple dns txt tls1 tlsv1 tlsv aes gcm
    bits bulk junk high normal low urgent yes true false generated replied
    reporting mta arrival remote diagnostic code final recipient rfc822 utf failed delayed relayed expanded
    last attempt will retry until xenix dsn gateway notification notifications options feedback abuse fraud
    virus other mailfrom rcpt incidents human actions mdn manual automatic displayed deleted reported ua
    mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec gmt utc est edt cst cdt mst
    mdt pst pdt cet cest
""")

# Of names of files: what comes behind the dot.
ENDINGS = _read("""
    txt htm html xhtml csv pdf doc docx xls xlsx ppt pptx odt ods odp rtf png jpg jpeg gif bmp tif tiff
    webp svg ico mp3 mp4 wav ogg avi mov mpg mpeg mkv zip gz tgz tar bz2 xz rar ics vcf eml msg xml json
    yml yaml asc sig p7s p7m dat bin
""")

# Of calendars and address cards (RFC 5545, RFC 6350).
CARDS = _read("""
    begin end vcalendar vevent vtodo vjournal vfreebusy vtimezone valarm vcard standard daylight version
    prodid method calscale request reply cancel publish counter refresh add gregorian uid dtstamp dtstart
    dtend due duration summary description location organizer attendee created last modified sequence
    status confirmed tentative cancelled needs action accepted declined transp opaque transparent class
    public private confidential priority categories rrule freq daily weekly monthly yearly byday bymonth
    interval count until wkst exdate rdate recurrence id tzid tzname tzoffsetfrom tzoffsetto trigger
    display audio email value date time text uri binary encoding base64 quoted printable charset utf cutype
    individual group resource room role chair req participant opt non partstat rsvp true false cn dir
    delegated from to sent by mailto related start fn n org title tel adr note url nickname bday photo
    type home work cell fax voice pref internet lang x geo attach contact mo tu we th fr sa su
""")

# Of HTML and CSS, as far as mail has it.
MARKUP = _read("""
    doctype html public dtd transitional strict xhtml head body title meta link style script base a abbr
    address area article aside audio b big blockquote br button caption center cite code col colgroup dd
    del details div dl dt em fieldset figure font footer form h1 h2 h3 h4 h5 h6 header hr i iframe img
    input ins kbd label legend li main map mark nav object ol option p param pre q s samp section select
    small span strike strong sub sup table tbody td textarea tfoot th thead tr tt u ul var video wbr
    abbr align alink alt background bgcolor border cellpadding cellspacing charset checked class clear
    color colspan cols content coords data datetime dir disabled equiv face frame height href hspace http
    id ismap lang language media method name noshade nowrap rel role rowspan rows rules scope shape size
    src start summary tabindex target text type usemap valign value vlink vspace width xmlns xml
    px pt pc ex rem cm mm vh vw auto none normal inherit initial important left right top bottom middle
    baseline justify bold bolder lighter italic oblique underline overline through line block inline flex
    grid hidden visible scroll fixed absolute relative static sticky solid dashed dotted double
    collapse separate margin padding spacing decoration family weight letter word break wrap overflow
    display position float index list image repeat position max min box sizing radius shadow opacity
    transform cursor pointer white space keep all screen print only and not import charset utf mso
    arial helvetica sans serif times new roman courier georgia verdana tahoma calibri system ui monospace
    black silver gray grey maroon red purple fuchsia green lime olive yellow navy blue teal aqua orange
    transparent rgb rgba url blank self parent mailto cid post get submit radio checkbox password viewport
    device scale
""")

# What "&" begins in HTML; ";" ends it.
ENTITIES = _read("""
    nbsp amp lt gt quot apos copy reg trade euro pound yen cent sect deg hellip mdash ndash lsquo rsquo
    ldquo rdquo sbquo bdquo laquo raquo bull middot times divide plusmn frac12 frac14 frac34 para shy zwnj
    zwj ensp emsp thinsp
""")
