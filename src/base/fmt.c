/*
 * base/fmt.c - formatted text without libc.
 */
#include "base/fmt.h"

struct sink {
    char *to;
    size_t bytes; /* room, with the closing NUL */
    size_t used;  /* what the whole text would take */
};

struct spec {
    bool left, zero;
    unsigned width;
    int precision; /* -1: none */
    char length;   /* 0, 'h', 'H' (hh), 'l', 'z', 'j' */
};

static void put(struct sink *sink, char c)
{
    if (sink->used + 1 < sink->bytes)
        sink->to[sink->used] = c;
    sink->used++;
}

static void put_text(struct sink *sink, const struct spec *spec, const char *text)
{
    size_t length = 0;
    if (text == NULL)
        text = "(null)";
    while (text[length] != '\0' && (spec->precision < 0 || length < (size_t)spec->precision))
        length++;
    for (size_t i = length; !spec->left && i < spec->width; i++)
        put(sink, ' ');
    for (size_t i = 0; i < length; i++)
        put(sink, text[i]);
    for (size_t i = length; spec->left && i < spec->width; i++)
        put(sink, ' ');
}

static void put_number(struct sink *sink, const struct spec *spec, u64 value, bool negative,
                       unsigned base, const char *digits)
{
    char text[24];
    unsigned length = 0;
    do {
        text[length++] = digits[value % base];
        value /= base;
    } while (value != 0);
    unsigned total = length + negative;
    for (unsigned i = total; !spec->left && !spec->zero && i < spec->width; i++)
        put(sink, ' ');
    if (negative)
        put(sink, '-');
    for (unsigned i = total; !spec->left && spec->zero && i < spec->width; i++)
        put(sink, '0');
    while (length > 0)
        put(sink, text[--length]);
    for (unsigned i = total; spec->left && i < spec->width; i++)
        put(sink, ' ');
}

static const char *parse_spec(const char *format, struct spec *spec)
{
    *spec = (struct spec){.precision = -1};
    for (;; format++) {
        if (*format == '-')
            spec->left = true;
        else if (*format == '0')
            spec->zero = true;
        else
            break;
    }
    for (; *format >= '0' && *format <= '9'; format++)
        spec->width = spec->width * 10 + (unsigned)(*format - '0');
    if (*format == '.') {
        spec->precision = 0;
        for (format++; *format >= '0' && *format <= '9'; format++)
            spec->precision = spec->precision * 10 + (*format - '0');
    }
    for (; *format == 'l' || *format == 'h' || *format == 'z' || *format == 'j'; format++)
        spec->length = *format == 'h' && spec->length == 'h' ? 'H' : *format;
    return format;
}

static u64 take_unsigned(const struct spec *spec, va_list *args)
{
    if (spec->length == 'l' || spec->length == 'z' || spec->length == 'j')
        return va_arg(*args, u64);
    u32 value = va_arg(*args, u32);
    return spec->length == 'H' ? (u8)value : spec->length == 'h' ? (u16)value : value;
}

static s64 take_signed(const struct spec *spec, va_list *args)
{
    if (spec->length == 'l' || spec->length == 'z' || spec->length == 'j')
        return va_arg(*args, s64);
    s32 value = va_arg(*args, s32);
    return spec->length == 'H' ? (s8)value : spec->length == 'h' ? (s16)value : value;
}

static void put_conversion(struct sink *sink, struct spec *spec, char conversion, va_list *args)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    s64 number;
    switch (conversion) {
    case 's':
        put_text(sink, spec, va_arg(*args, const char *));
        break;
    case 'c':
        put(sink, (char)va_arg(*args, int));
        break;
    case 'd':
    case 'i':
        number = take_signed(spec, args);
        put_number(sink, spec, number < 0 ? 0 - (u64)number : (u64)number, number < 0, 10, lower);
        break;
    case 'u':
        put_number(sink, spec, take_unsigned(spec, args), false, 10, lower);
        break;
    case 'x':
        put_number(sink, spec, take_unsigned(spec, args), false, 16, lower);
        break;
    case 'X':
        put_number(sink, spec, take_unsigned(spec, args), false, 16, upper);
        break;
    case 'p':
        put(sink, '0');
        put(sink, 'x');
        put_number(sink, spec, (u64)va_arg(*args, void *), false, 16, lower);
        break;
    case '%':
        put(sink, '%');
        break;
    default: /* not ours: show it as it stands */
        put(sink, '%');
        put(sink, conversion);
    }
}

size_t fmt_text_v(char *to, size_t bytes, const char *format, va_list args)
{
    struct sink sink = {to, bytes, 0};
    va_list copy;
    va_copy(copy, args);
    while (*format != '\0') {
        struct spec spec;
        if (*format != '%') {
            put(&sink, *format++);
            continue;
        }
        format = parse_spec(format + 1, &spec);
        if (*format == '\0')
            break;
        put_conversion(&sink, &spec, *format++, &copy);
    }
    va_end(copy);
    if (bytes > 0)
        to[sink.used < bytes ? sink.used : bytes - 1] = '\0';
    return sink.used;
}

size_t fmt_text(char *to, size_t bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t length = fmt_text_v(to, bytes, format, args);
    va_end(args);
    return length;
}
