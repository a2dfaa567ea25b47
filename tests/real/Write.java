import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.security.Key;
import java.security.KeyStore;
import java.security.Provider;

/** Writes one PKCS#12 with a provider's default settings: the first key entry of each file that is named, with its chain. */
public class Write {
    public static void main(String[] arguments) throws Exception {
        char[] password = new String(System.in.readAllBytes(), "UTF-8").toCharArray();
        KeyStore target = arguments[0].equals("BC") ? KeyStore.getInstance("PKCS12", bouncyCastle()) : KeyStore.getInstance("PKCS12", arguments[0]);
        target.load(null, null);
        for (int i = 2; i < arguments.length; i++) {
            KeyStore source = KeyStore.getInstance("PKCS12", "SunJSSE");
            try (FileInputStream file = new FileInputStream(arguments[i])) {
                source.load(file, "in-comes-a-file".toCharArray());
            }
            String alias = source.aliases().nextElement();
            Key key = source.getKey(alias, "in-comes-a-file".toCharArray());
            target.setKeyEntry("alice " + i, key, password, source.getCertificateChain(alias));
        }
        try (FileOutputStream file = new FileOutputStream(arguments[1])) {
            target.store(file, password);
        }
    }

    private static Provider bouncyCastle() throws Exception {
        return (Provider) Class.forName("org.bouncycastle.jce.provider.BouncyCastleProvider").getDeclaredConstructor().newInstance();
    }
}
